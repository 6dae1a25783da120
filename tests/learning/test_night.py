"""The night trainer: what it trains, refuses and repeats."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import OperationalError

from maxxit.core import clock
from maxxit.learning import night, registry, worlds
from maxxit.learning.hours import Hours
from maxxit.learning.models import TrainedModel, TrainingRun
from maxxit.learning.policy import ModelsPolicy, policy
from tests.learning.stored import MIDNIGHT, store_candles, trained

pytestmark = pytest.mark.django_db
TWO = MIDNIGHT + timedelta(hours=2)
KINDS, HORIZONS = ("har",), (1, 6)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    rules = policy().model_dump()
    rules["train"] |= {"kinds": KINDS, "horizons_hours": HORIZONS}
    chosen = ModelsPolicy.model_validate(rules)
    monkeypatch.setattr(night, "policy", lambda: chosen)
    with clock.frozen(TWO):
        yield


def outcomes() -> dict[int, tuple[str, int]]:
    return {row.horizon_hours: (row.outcome, row.attempts) for row in TrainingRun.objects.all()}


def test_a_night_trains_each_kind_and_horizon_once_on_data_up_to_midnight() -> None:
    store_candles()
    done = night.run()
    assert len(done.trained) == len(HORIZONS)
    assert outcomes() == {1: ("trained", 1), 6: ("trained", 1)}
    assert {row.data_to for row in TrainedModel.objects.all()} == {MIDNIGHT}
    assert {row.state for row in TrainedModel.objects.all()} == {"candidate"}
    left_out = TrainingRun.objects.first().left_out  # type: ignore[union-attr]
    assert left_out["LTC"] == "no candles are stored"
    assert {"BTC", "ETH"}.isdisjoint(left_out)
    with clock.frozen(TWO + timedelta(minutes=20)):
        assert night.run() == night.Night(MIDNIGHT.date().isoformat())
    assert TrainedModel.objects.count() == len(HORIZONS)


def test_symbols_without_enough_data_are_left_out_and_the_reason_is_stored() -> None:
    done = night.run()
    assert done.trained == []
    assert done.refused == {
        f"har {horizon} h": "no symbol has enough data: see left_out" for horizon in HORIZONS
    }
    assert outcomes() == {1: ("refused", 1), 6: ("refused", 1)}


@pytest.mark.parametrize(
    ("rows", "hours_later", "missing", "problem"),
    [
        (720, 0, 0, ""),
        (100, 0, 0, "100 hours of bars, at least 337 are needed"),
        (720, 7, 0, "the last bar is 7 h old, at most 6 h are allowed"),
        (720, 6, 0, ""),
        (720, 0, 72, "10.0 % of the hours have no bar, at most 5 % are allowed"),
    ],
)
def test_data_that_do_not_suffice_are_refused_with_value_and_limit(
    rows: int, hours_later: int, missing: int, problem: str
) -> None:
    whole = worlds.world(3, 30)[0]
    close = whole.close.copy()
    close[100 : 100 + missing] = np.nan
    hours = Hours(whole.symbol, whole.first, close, *(getattr(whole, name) for name in
                  ("high", "low", "volume", "variance", "posts", "sides"))).until(rows)  # fmt: skip
    until = hours.end(len(hours) - 1) + timedelta(hours=hours_later)
    assert night.data_problem(hours, until) == problem


def test_a_training_that_fails_does_not_stop_the_others_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store_candles()
    serves = trained(state="serving", horizon_hours=6)
    train = registry.train

    def broken(kind: str, horizon: int, *rest: Any) -> Any:
        if horizon == 1:
            raise ZeroDivisionError("no variance")
        return train(kind, horizon, *rest)

    monkeypatch.setattr(registry, "train", broken)
    done = night.run()
    assert done.failed == {"har 1 h": "ZeroDivisionError: no variance"}
    assert outcomes() == {1: ("failed", 1), 6: ("trained", 1)}
    assert registry.serving("volatility", 6) == serves
    monkeypatch.setattr(registry, "train", train)
    assert len(night.run().trained) == 1
    assert outcomes() == {1: ("trained", 2), 6: ("trained", 1)}


def test_a_training_whose_process_dies_three_times_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    store_candles()

    def lost(*_: Any) -> Any:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(registry, "train", lost)
    for attempt in range(1, night.ATTEMPTS + 1):
        with pytest.raises(OperationalError):
            night.run()
        assert outcomes() == {1: ("running", attempt)}
    with pytest.raises(OperationalError):
        night.run()
    assert outcomes()[1] == ("failed", night.ATTEMPTS)
    assert outcomes()[6] == ("running", 1)


def test_a_pass_starts_no_training_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store_candles()
    monkeypatch.setattr(night, "PASS_SECONDS", -1.0)
    done = night.run()
    assert (done.trained, done.left) == ([], len(HORIZONS))
    assert outcomes() == {}
