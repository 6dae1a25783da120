"""The stop loss by a volatility forecast within its bounds, and the fixed percent without a usable one."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from maxxit.learning.models import Forecast, TrainedModel
from maxxit.learning.policy import policy as models_policy
from positions.exits.levels import levels
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.learning.stored import trained
from trading.risk.policy import Exits, RiskPolicy
from trading.risk.policy import policy as risk_policy

D = Decimal
RULES = policy().generate.volatility_stop


@pytest.fixture(autouse=True)
def _market(db: None, time: RecordedClock) -> None:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")


def signal(preset: str = "volatility") -> Signal:
    make.candidate(make.account(make.agent(exit_preset=preset)))
    generate(policy().generate)
    return Signal.objects.get()


def forecast(sigma: float, **fields: Any) -> TrainedModel:
    row = trained(state="serving", horizon_hours=RULES.horizon_hours)
    values = {
        "symbol": "ETH",
        "at": T0 - timedelta(hours=1),
        "made_at": T0,
        "mean": 0,
        "quantiles": [],
    } | fields
    Forecast.objects.create(model=row, sigma=sigma, **values)
    return row


@pytest.mark.parametrize(
    ("sigma", "stop"),
    [(0.03, "4.5"), (0.0432, "6.48"), (0.001, "3"), (0.2, "7")],
)
def test_the_stop_is_a_multiple_of_the_forecast_volatility_within_the_bounds_of_every_stop(
    sigma: float, stop: str
) -> None:
    assert D("1.5") == RULES.multiple
    row = forecast(sigma)
    made = signal()
    assert (made.stop_loss_pct, made.take_profit_pct) == (D(stop), D(18))
    basis = made.risk_model["stop"]
    assert (basis["basis"], basis["model"]) == ("forecast", row.pk)
    assert D(basis["wanted_pct"]) == D(str(sigma)) * 150


def test_agents_with_another_preset_keep_the_fixed_percent() -> None:
    forecast(0.03)
    made = signal("signal")
    assert made.stop_loss_pct == 6
    assert "stop" not in made.risk_model


STALE = timedelta(minutes=models_policy().serve.stale_minutes, seconds=1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (None, "no_model"),
        ({"symbol": "BTC"}, "no_forecast"),
        ({"made_at": T0 + timedelta(seconds=1)}, "no_forecast"),
        ({"at": T0 - STALE}, "stale_forecast"),
        ({"sigma": 0.0}, "unusable_forecast"),
    ],
)
def test_without_a_usable_forecast_the_fixed_percent_stays_with_the_reason(
    fields: dict[str, Any] | None, reason: str
) -> None:
    if fields is not None:
        forecast(**{"sigma": 0.03} | fields)
    with capture_logs() as logs:
        made = signal()
    assert (made.stop_loss_pct, made.take_profit_pct) == (D(6), D(18))
    assert made.risk_model["stop"] == {"basis": "fixed", "reason": reason}
    [line] = [one for one in logs if one["event"] == "stop_without_forecast"]
    assert (line["token"], line["reason"], line["stop_loss_pct"]) == ("ETH", reason, "6")


def test_the_preset_keeps_the_signals_stop_but_none_further_than_its_hard_stop() -> None:
    rules = risk_policy().exits["volatility"]  # type: ignore[index]
    assert rules.stop_loss_pct is None
    near = rules.model_copy(update={"hard_stop_pct": D(4)})
    stops = [
        levels(
            one, side="long", entry=D(100), opened_at=T0, stop_loss_pct=D(5), take_profit_pct=D(18)
        ).stop_loss
        for one in (rules, near)
    ]
    assert stops == [95, 96]


def test_a_file_without_the_preset_uses_that_of_the_signal() -> None:
    body = risk_policy().model_dump()
    body["fees"] = {name: rule.text() for name, rule in risk_policy().fees}
    del body["exits"]["volatility"]
    body["exits"]["signal"] = Exits(max_holding_minutes=7).model_dump()
    made = RiskPolicy.model_validate(body)
    assert made.exits["volatility"].max_holding_minutes == 7  # type: ignore[index]
