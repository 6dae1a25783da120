"""The registry: from candidate to retired, and that a crash leaves the model that serves serving."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from maxxit.core import clock
from maxxit.core.errors import IllegalMove, Rejected
from maxxit.events.models import Event
from maxxit.events.record import advance
from maxxit.learning import registry, shadow, worlds
from maxxit.learning.models import Forecast, TrainedModel
from maxxit.learning.shadow import ShadowResult
from maxxit.learning.states import ModelState
from tests.learning.test_gates import DIRECTION, VOLATILITY

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    with clock.frozen(NOW):
        yield


def made(purpose: str = "volatility", *, number: int = 0, **metrics: Any) -> TrainedModel:
    known = DIRECTION if purpose == "direction" else VOLATILITY
    return TrainedModel.objects.create(
        kind="ridge" if purpose == "direction" else "har", purpose=purpose, horizon_hours=6, symbols=["BTC"],
        data_from=NOW - timedelta(days=200), data_to=NOW, data_sha256=f"{number:064d}", release="r", seed=1,
        tried=10, parameters={"coefficients": {}}, metrics=known | metrics, created_at=NOW,
    )  # fmt: skip


def test_a_model_is_trained_once_for_the_same_data() -> None:
    world = worlds.world(11, 60)
    first, again = (registry.train("har", 6, world, 1) for _ in range(2))
    assert (first.new, again.new) == (True, False)
    assert first.model.pk == again.model.pk
    assert TrainedModel.objects.count() == 1
    assert Event.objects.filter(name="trained_model.candidate").count() == 1
    TrainedModel.objects.all().delete()
    fitted = registry.train("har", 6, world, 1).model
    assert (fitted.parameters, fitted.metrics) == (first.model.parameters, first.model.metrics)


def test_a_person_approves_the_first_volatility_model_and_a_newer_fit_replaces_it() -> None:
    old = made()
    new = made(number=1, incumbent={"model": old.pk, "low_pct": 0.1, "qlike": 0.3})
    assert registry.promote(old, by="deployer", person=False) == ["shadow"]
    assert registry.promote(old, by="ann") == ["approved", "serving"]
    assert registry.promote(new, by="deployer", person=False) == ["shadow", "approved", "serving"]
    old.refresh_from_db()
    assert (old.state, new.state) == (ModelState.RETIRED, ModelState.SERVING)
    assert registry.promote(old, by="ann") == ["approved", "serving"]  # back in one command
    new.refresh_from_db()
    assert new.state == ModelState.RETIRED


def test_a_model_that_fails_its_gate_stays_a_candidate_with_value_and_limit() -> None:
    row = made(skill_low_pct=-0.1)
    with pytest.raises(Rejected, match=r"skill_over_ewma is -0.1 %, the limit is > 0 %"):
        registry.promote(row, by="ann")
    row.refresh_from_db()
    assert row.state == ModelState.CANDIDATE


def test_a_direction_model_rests_in_shadow_until_its_days_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    row = made("direction")
    assert registry.promote(row, by="ann") == ["shadow"]
    with pytest.raises(Rejected, match="shadow_days is 0"):
        registry.promote(row, by="ann")
    monkeypatch.setattr("maxxit.learning.shadow.results", lambda row: ShadowResult(30, 40, 0.1))
    with clock.frozen(NOW + timedelta(days=31)):
        assert registry.promote(row, by="ann") == ["approved", "serving"]
    assert row.approved_by == "ann"


def forecast(row: TrainedModel, hours: int, mean: float, late: timedelta = timedelta(0)) -> None:
    """A forecast from what was known `hours` after NOW, made `late` after that."""
    at = NOW + timedelta(hours=hours)
    Forecast.objects.create(
        model=row, symbol="BTC", at=at, sigma=0.02, mean=mean, quantiles=[], made_at=at + late
    )


def test_the_trades_of_a_shadow_are_counted_once_their_horizon_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = made("direction")
    registry.promote(row, by="ann")
    for hours, mean in ((0, 0.02), (6, -0.02), (7, 0.02), (12, 0.0001), (18, 0.02)):
        forecast(row, hours, mean)
    monkeypatch.setattr(
        shadow.candles, "closes", lambda wanted, **_: [100 + 2 * n for n, _ in enumerate(wanted)]
    )
    with clock.frozen(NOW + timedelta(hours=20)):
        found = shadow.results(row)
    assert found.trades == 2  # not the one between horizons, the weak one, nor the one that is still open
    assert found.net_return == pytest.approx(-2 * shadow.COST)


def test_a_shadow_trades_when_a_forecast_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    row = made("direction")
    forecast(row, -6, 0.02, late=timedelta(hours=1))  # made before the shadow began
    registry.promote(row, by="ann")
    forecast(row, 0, 0.02, late=timedelta(minutes=20))
    forecast(row, 6, 0.02, late=timedelta(hours=6))  # made when its outcome was known
    asked: list[Any] = []

    def closes(wanted: list[Any], **_: Any) -> list[int]:
        asked.extend(wanted)
        return [100] * len(wanted)

    monkeypatch.setattr(shadow.candles, "closes", closes)
    with clock.frozen(NOW + timedelta(hours=20)):
        found = shadow.results(row)
    assert asked == [("BTC", NOW + timedelta(minutes=20)), ("BTC", NOW + timedelta(hours=6))]
    assert (found.days, found.trades) == (1, 1)


def test_a_shadow_lasts_as_many_days_as_it_made_forecasts_on() -> None:
    row = made("direction")
    registry.promote(row, by="ann")
    for day in (0, 1, 30):
        forecast(row, 24 * day, 0.0)
        forecast(row, 24 * day + 1, 0.0)
    with clock.frozen(NOW + timedelta(days=40)):
        assert shadow.results(row).days == 3
        with pytest.raises(Rejected, match="shadow_days is 3, the limit is >= 30"):
            registry.promote(row, by="ann")


def test_metrics_of_another_evaluator_do_not_pass() -> None:
    row = made()
    row.metrics = {key: value for key, value in row.metrics.items() if key != "qlike"}
    with pytest.raises(Rejected, match="qlike"):
        registry.promote(row, by="ann")


def test_two_models_never_serve_and_states_are_not_skipped() -> None:
    row, other = made(), made(number=1)
    with pytest.raises(IllegalMove):
        advance(row, ModelState.SERVING)
    registry.promote(row, by="ann")
    for state in (ModelState.SHADOW, ModelState.APPROVED):
        advance(other, state)
    with pytest.raises(IntegrityError), transaction.atomic():
        advance(other, ModelState.SERVING)


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("moment", range(1, 5))
def test_a_crash_while_a_model_is_promoted_leaves_the_one_that_serves(
    moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    serves, calls = made(), 0
    registry.promote(serves, by="ann")
    candidate = made(number=1, incumbent={"model": serves.pk, "low_pct": 0.1, "qlike": 0.3})

    def dying(*args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == moment:  # shadow, approved, the retirement of the other, serving
            raise Killed
        advance(*args, **options)

    monkeypatch.setattr(registry, "advance", dying)
    with pytest.raises(Killed):
        registry.promote(candidate, by="ann")
    assert registry.serving("volatility", 6) == serves
    candidate.refresh_from_db()
    assert candidate.state == ModelState.CANDIDATE


@pytest.mark.parametrize("part", ["gather", "volatility"])
def test_a_crash_while_a_model_is_trained_leaves_the_one_that_serves(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any, **__: Any) -> None:
        raise Killed

    serves = made()
    registry.promote(serves, by="ann")
    monkeypatch.setattr(f"maxxit.learning.evaluate.{part}", dying)
    with pytest.raises(Killed):
        registry.train("har", 6, worlds.world(11, 40), 1)
    assert registry.serving("volatility", 6) == serves
    assert TrainedModel.objects.count() == 1


def test_the_candidates_of_all_stored_models_are_counted() -> None:
    made("direction")
    made("direction", number=1)
    made(number=2)
    assert registry.counted_candidates(NOW - timedelta(days=10), NOW) == 20
    assert registry.counted_candidates(NOW, NOW + timedelta(days=1)) == 0


def test_a_retired_model_that_never_served_does_not_move() -> None:
    row = made()
    registry.retire(row, by="ann", why="wrong data")
    with pytest.raises(Rejected, match="retired already"):
        registry.retire(row, by="ann", why="again")
    with pytest.raises(Rejected, match="must have served"):
        registry.promote(row, by="ann")
