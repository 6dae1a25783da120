"""The watchdog of trained models, and its check on the health page."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from maxxit.core import clock
from maxxit.learning import watchdog
from maxxit.learning.models import Forecast, TrainingRun
from maxxit.learning.policy import policy
from maxxit.reports import checks
from tests.learning.stored import MIDNIGHT, trained

pytestmark = pytest.mark.django_db
NOON = MIDNIGHT + timedelta(hours=12)
STALE = timedelta(minutes=policy().serve.stale_minutes)


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    with clock.frozen(NOON):
        yield


def ran(**fields: object) -> TrainingRun:
    values = {
        "night": NOON.date(),
        "kind": "har",
        "horizon_hours": 6,
        "outcome": "trained",
        "started_at": MIDNIGHT,
    }
    return TrainingRun.objects.create(**values | fields)


def test_nothing_is_wrong_where_no_model_serves() -> None:
    assert watchdog.problems() == []
    assert checks.trained_models().ok


def test_a_model_that_serves_without_fresh_forecasts() -> None:
    ran()
    row = trained(state="serving", served_at=NOON - STALE)
    assert watchdog.problems() == []
    with clock.frozen(NOON + timedelta(seconds=1)):
        [problem] = watchdog.problems()
    assert (
        problem
        == f"model {row.pk} ({row}) serves and its newest forecast is of {NOON - STALE:%Y-%m-%d %H:%M} UTC"
    )
    Forecast.objects.create(model=row, symbol="BTC", at=NOON, sigma=1, mean=0, quantiles=[], made_at=NOON)
    with clock.frozen(NOON + timedelta(seconds=1)):
        assert watchdog.problems() == []


def test_a_training_that_failed() -> None:
    ran(outcome="failed", reason="the process died 3 times")
    ran(horizon_hours=1, outcome="refused", reason="no candles")
    check = checks.trained_models()
    assert not check.ok
    assert "har 6 h" in check.detail
    assert "the process died 3 times" in check.detail
    assert "no candles" not in check.detail
    assert "manage.py models runs" in check.fix


def test_a_night_without_a_training_while_a_model_serves() -> None:
    trained(state="serving", served_at=NOON)
    ran(night=NOON.date() - timedelta(days=1))
    assert watchdog.problems() == [f"no training ran in the night of {NOON:%Y-%m-%d}"]
    with clock.frozen(MIDNIGHT + timedelta(hours=5)):
        assert "no training ran" not in " ".join(watchdog.problems())
