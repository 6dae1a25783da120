"""What the risk score uses of the market is stored with the signal, and nothing is read where the score is off."""

from datetime import timedelta
from typing import Any

import pytest

from maxxit.core.clock import iso_utc
from maxxit.learning.models import Forecast
from signals_app.forecast_use import risk_inputs
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.learning.stored import trained

QUANTILES = [-0.09, -0.05, -0.02, 0, 0.02, 0.06, 0.09]


@pytest.fixture
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    on = risk_inputs._Risk(risk_score=risk_inputs._Score(enabled=True))
    monkeypatch.setattr(risk_inputs, "load", lambda name, kind: on)


def signal() -> Signal:
    make.hourly_bars("ETH", make.calm())
    make.hourly_bars("BTC", [price * 10 for price in make.calm()])
    make.hourly_bars("SOL", [4_000 - price for price in make.calm()])
    make.hourly_bars("XRP", [1.0] * 60)
    make.hourly_bars("LTC", make.calm()[:50])
    make.price("ETH", "2000")
    make.candidate(make.account(make.agent()))
    generate(policy().generate)
    return Signal.objects.get()


def forecast(**fields: Any) -> int:
    row = trained(state="serving", horizon_hours=24)
    values = {
        "symbol": "ETH",
        "at": T0,
        "made_at": T0,
        "mean": 0,
        "sigma": 0.04,
        "quantiles": QUANTILES,
    } | fields
    Forecast.objects.create(model=row, **values)
    return row.pk


@pytest.mark.usefixtures("enabled")
def test_a_signal_stores_the_forecast_and_the_correlations(db: None, time: RecordedClock) -> None:
    model = forecast()
    stored = signal().risk_model["risk_inputs"]
    assert stored["forecast"] == {
        "sigma": "0.04", "q10": "-0.05", "q90": "0.06", "horizon_hours": 24, "model": model, "at": iso_utc(T0),
    }  # fmt: skip
    assert stored["correlations"] == {"BTC": "1.0000", "SOL": "-1.0000"}, "XRP did not move, LTC lacks bars"


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (None, "no_model"),
        ({"at": T0 - timedelta(hours=3)}, "stale_forecast"),
        ({"sigma": float("nan")}, "unusable_forecast"),
        ({"quantiles": []}, "unusable_forecast"),
    ],
)
def test_without_a_usable_forecast_the_reason_is_stored(
    db: None, time: RecordedClock, fields: dict[str, Any] | None, reason: str
) -> None:
    if fields is not None:
        forecast(**fields)
    assert signal().risk_model["risk_inputs"]["forecast"] == {"reason": reason}


def test_where_the_score_is_off_nothing_is_stored(db: None, time: RecordedClock) -> None:
    forecast()
    assert "risk_inputs" not in signal().risk_model
