"""The morning deployer: candidates move as far as their gates allow, models whose live skill is lost are retired."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from maxxit.core import clock
from maxxit.learning import live, morning, registry
from maxxit.learning.live import LiveSkill
from maxxit.learning.models import TrainedModel
from maxxit.learning.shadow import ShadowResult
from tests.learning.stored import MIDNIGHT, store_candles, trained
from tests.learning.test_gates import DIRECTION, VOLATILITY

pytestmark = pytest.mark.django_db
MORNING = MIDNIGHT + timedelta(hours=8, minutes=30)


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    store_candles()
    with clock.frozen(MORNING):
        yield


def better_than(serving: TrainedModel) -> dict[str, Any]:
    """Metrics of a candidate that was compared with the model that serves."""
    return VOLATILITY | {"incumbent": {"model": serving.pk, "low_pct": 0.1, "qlike": 0.3}}


def states() -> dict[int, str]:
    return dict(TrainedModel.objects.values_list("pk", "state"))


def test_the_first_model_of_a_kind_waits_in_shadow_for_a_person() -> None:
    row = trained()
    [decision] = morning.deploy()
    assert decision.entered == ["shadow"]
    assert "waits for the approval of a person" in decision.held_back
    [again] = morning.deploy()
    assert (again.state, again.entered) == ("shadow", [])
    assert "waits for the approval" in again.held_back
    row.refresh_from_db()
    registry.promote(row, by="ann")
    assert states() == {row.pk: "serving"}


def test_a_newer_fit_of_the_kind_that_serves_replaces_it() -> None:
    old = trained(state="serving", served_at=MIDNIGHT)
    new = trained(data_sha256="1" * 64, metrics=better_than(old))
    [review, decision] = morning.deploy()
    assert (review.model, review.entered) == (old.pk, [])
    assert (decision.model, decision.entered) == (new.pk, ["shadow", "approved", "serving"])
    assert states() == {old.pk: "retired", new.pk: "serving"}


def test_a_candidate_that_fails_its_gate_stays_with_the_check_that_failed() -> None:
    row = trained(metrics=VOLATILITY | {"skill_low_pct": -0.1})
    [decision] = morning.deploy()
    assert decision.held_back == "skill_over_ewma"
    assert {
        "name": "skill_over_ewma",
        "value": "-0.1 %",
        "limit": "> 0 %",
        "passed": False,
    } in decision.checks
    assert states() == {row.pk: "candidate"}


def test_a_newer_model_in_shadow_replaces_older_ones_that_wait() -> None:
    waits = trained(state="shadow")
    failed = trained(data_sha256="1" * 64, metrics=VOLATILITY | {"skill_low_pct": -0.1})
    other = trained(horizon_hours=24)
    new = trained(data_sha256="2" * 64)
    morning.deploy()
    assert states() == {waits.pk: "retired", failed.pk: "retired", other.pk: "shadow", new.pk: "shadow"}


def test_a_candidate_that_cannot_forecast_now_is_held_back() -> None:
    row = trained()
    with clock.frozen(MORNING + timedelta(days=30)):
        [decision] = morning.deploy()
    assert decision.held_back == "health check: no symbol has candles of the last hour"
    assert states() == {row.pk: "candidate"}


def test_a_dry_run_moves_nothing_and_shows_each_check(monkeypatch: pytest.MonkeyPatch) -> None:
    serves = trained(state="serving")
    candidate = trained(data_sha256="1" * 64, metrics=better_than(serves))
    monkeypatch.setattr(live, "live_skill", lambda row: LiveSkill(900, 20, -3.0, -5.0, -1.0))
    review, decision = morning.deploy(dry_run=True)
    assert review.held_back.startswith("live skill is lost: -3.00 % against EWMA (-5.00 to -1.00)")
    assert {one["name"] for one in decision.checks} >= {"skill_over_ewma", "skill_over_incumbent", "qlike"}
    assert states() == {serves.pk: "serving", candidate.pk: "candidate"}


def test_a_model_whose_live_skill_is_lost_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    serves = trained(state="serving")
    monkeypatch.setattr(live, "live_skill", lambda row: LiveSkill(900, 20, -3.0, -5.0, 0.1))
    assert morning.deploy()[0].entered == []
    monkeypatch.setattr(live, "live_skill", lambda row: LiveSkill(900, 20, -3.0, -5.0, -1.0))
    assert morning.deploy()[0].entered == ["retired"]
    assert states() == {serves.pk: "retired"}


@pytest.mark.parametrize(
    ("results", "state"), [((30, -0.1), "retired"), ((29, -0.1), "serving"), ((90, 0.1), "serving")]
)
def test_a_direction_model_whose_live_trades_lose_is_retired(
    results: tuple[int, float], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = trained(kind="ridge", purpose="direction", state="serving", metrics=DIRECTION)
    monkeypatch.setattr("maxxit.learning.shadow.results", lambda row: ShadowResult(30, *results))
    morning.deploy()
    assert states() == {row.pk: state}


def test_a_model_that_cannot_be_judged_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = trained(metrics={"purpose": "volatility"})
    whole = trained(horizon_hours=24)
    serves = trained(state="serving", horizon_hours=1)

    def failing(row: TrainedModel) -> Any:
        raise ZeroDivisionError("empty")

    monkeypatch.setattr(live, "live_skill", failing)
    review, *decisions = morning.deploy()
    assert review.held_back == "ZeroDivisionError: empty"
    assert {one.model: one.entered for one in decisions} == {broken.pk: [], whole.pk: ["shadow"]}
    assert states()[serves.pk] == "serving"


def test_a_database_that_is_away_ends_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    trained()

    def away(*_: Any) -> Any:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(registry, "next_step", away)
    with pytest.raises(OperationalError):
        morning.deploy()
