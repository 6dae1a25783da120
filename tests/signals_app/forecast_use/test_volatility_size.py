"""A volatility target makes sizes smaller by the forecast, never larger; without one they stay, with the reason."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.clock import iso_utc
from maxxit.learning.forecasts import Volatility
from maxxit.learning.models import Forecast, TrainedModel
from maxxit.learning.reasons import NoForecast
from signals_app.forecast_use.volatility_size import by_volatility
from signals_app.generate import generate
from signals_app.models import Signal
from signals_app.policy import policy
from signals_app.size import scale_of, size_model
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.learning.stored import trained
from trading.risk.facts import Entries
from trading.risk.policy import policy as risk_policy
from trading.venues.base import VenueAnswer

D = Decimal
HORIZON = policy().generate.volatility_size.horizon_hours
targets = st.decimals("0.01", 100, places=2)
sigmas = st.floats(1e-300, 1e6)


def scale(target: str, sigma: float) -> Decimal:
    return scale_of({"volatility": by_volatility(D(target), Volatility(sigma, HORIZON, 1, T0))})


@pytest.mark.parametrize(
    ("target", "sigma", "wanted"),
    [
        ("3", 0.06, "0.5"),
        ("3", 0.03, "1"),
        ("3", 0.01, "1"),
        ("1", 0.03, "0.333333"),
        ("0.01", 1e6, "0.000001"),
    ],
)
def test_the_scale_is_the_target_by_the_forecast_and_at_most_1(
    target: str, sigma: float, wanted: str
) -> None:
    assert scale(target, sigma) == D(wanted)


@given(targets, sigmas, sigmas, st.sampled_from(["0.3", "0.6", "0.9"]))
def test_no_forecast_makes_a_size_larger_and_a_higher_one_makes_it_no_larger(
    target: Decimal, one: float, other: float, confidence: str
) -> None:
    low, high = sorted((one, other))
    plain = D(size_model("moderate", D(confidence), 0)["size"])
    sizes = [
        D(
            size_model(
                "moderate", D(confidence), 0, by_volatility(target, Volatility(sigma, HORIZON, 1, T0))
            )["size"]
        )
        for sigma in (low, high)
    ]
    assert 0 < sizes[1] <= sizes[0] <= plain


@pytest.mark.parametrize("reason", list(NoForecast))
def test_without_a_forecast_the_size_stays_with_the_reason(reason: NoForecast) -> None:
    basis = by_volatility(D(3), reason)
    made = size_model("moderate", D("0.6"), 0, basis)
    assert made["size"] == size_model("moderate", D("0.6"), 0)["size"]
    assert made["volatility"] == {"scale": "1", "target_pct": "3", "reason": reason.value}


def forecast(sigma: float, **fields: Any) -> TrainedModel:
    row = trained(state="serving", horizon_hours=HORIZON)
    values = {"symbol": "ETH", "at": T0, "made_at": T0, "mean": 0, "quantiles": []} | fields
    Forecast.objects.create(model=row, sigma=sigma, **values)
    return row


def signal(**fields: Any) -> Signal:
    make.hourly_bars("ETH", make.calm())
    make.price("ETH", "2000")
    agent = make.agent(**fields)
    make.candidate(make.account(agent))
    generate(policy().generate)
    return Signal.objects.get()


def entry_usd(made: Signal, usdc: str) -> Decimal:
    order = make.order(make.deployment(made.agent, usdc=usdc), by=made)
    return Entries.read([order], "paper", risk_policy()).of(order, VenueAnswer()).notional_usd


def test_an_entry_is_smaller_by_the_scale_that_its_signal_states(db: None, time: RecordedClock) -> None:
    model = forecast(0.06).pk
    made = signal(volatility_target_pct=D(3))
    assert made.size_model["volatility"] == {
        "scale": "0.5", "target_pct": "3", "sigma_pct": "6.0000", "horizon_hours": HORIZON, "model": model,
        "at": iso_utc(T0),
    }  # fmt: skip
    small = entry_usd(made, "10000")
    assert small == D(made.size_model["size"]) * 10_000
    del made.size_model["volatility"]
    assert entry_usd(made, "10000") == 2 * small


def test_an_entry_is_not_made_smaller_than_its_minimum_nor_larger_than_its_size(
    db: None, time: RecordedClock
) -> None:
    made = make.signal(
        make.agent(), confidence=D("0.72"), size_model={"posts": 0, "volatility": {"scale": "0.01"}}
    )
    make.price("ETH", "2000")
    least = risk_policy().sizing["moderate"].min_usd  # type: ignore[index]
    assert entry_usd(made, "1000") == least == 10
    assert entry_usd(made, "100") == 8, (
        "8 % of 100: what it would be without a target, which is below the minimum"
    )


def test_an_agent_without_a_target_reads_no_forecast(db: None, time: RecordedClock) -> None:
    forecast(0.06)
    assert "volatility" not in signal().size_model


def test_a_stale_forecast_leaves_the_size_and_trading_goes_on(db: None, time: RecordedClock) -> None:
    forecast(0.06, at=T0 - timedelta(hours=3))
    made = signal(volatility_target_pct=D(3))
    assert (made.size_model["volatility"]["reason"], scale_of(made.size_model)) == ("stale_forecast", 1)
