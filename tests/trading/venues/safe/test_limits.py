"""The limits that an owner signs are proportionate to the capital, valid, and never looser than configured."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from maxxit.core.terms import Preset
from trading.chain import chains
from trading.risk.policy import policy as risk_policy
from trading.venues.safe import limits
from trading.venues.safe.contract.module import LOWER_IS_STRICTER, USDC_UNIT

SCALED = ("max_trade", "daily_notional", "trades_per_day", "loss_budget", "total_loss_budget")
CAPITAL = st.decimals(min_value="0.000001", max_value=10**9, places=6, allow_nan=False)


@given(CAPITAL, st.sampled_from(Preset))
def test_limits_are_valid_and_no_looser_than_configured(capital: Decimal, preset: Preset) -> None:
    """The contract's bounds: `_check` of TradingModule.vy."""
    terms = chains.terms()
    made = limits.limits_of(terms, capital, preset)
    assert terms.min_trade == made.min_trade <= made.max_trade <= made.daily_notional
    assert 0 < made.loss_budget <= made.total_loss_budget
    assert made.trades_per_day > 0
    for name in set(SCALED) & set(LOWER_IS_STRICTER):
        assert getattr(made, name) <= getattr(terms, name)
    assert {name for name, value in made.model_dump().items() if value != getattr(terms, name)} <= set(SCALED)


@given(CAPITAL, CAPITAL, st.sampled_from(Preset))
def test_more_capital_never_means_less(one: Decimal, other: Decimal, preset: Preset) -> None:
    low, high = sorted((one, other))
    small, large = (limits.limits_of(chains.terms(), capital, preset) for capital in (low, high))
    assert all(getattr(small, name) <= getattr(large, name) for name in SCALED)


def test_five_hundred_usdc_in_words_of_the_card() -> None:
    """At most 25 USDC a day, 75 in all."""
    made = limits.limits_of(chains.terms(), Decimal(500), Preset.CONSERVATIVE)
    usdc = {name: getattr(made, name) / USDC_UNIT for name in SCALED if name != "trades_per_day"}
    assert usdc == {"max_trade": 50, "daily_notional": 200, "loss_budget": 25, "total_loss_budget": 75}


def test_without_a_capital_the_configured_limits_are_planned() -> None:
    assert limits.limits_of(chains.terms(), None, Preset.MODERATE) == chains.terms()


@pytest.mark.parametrize("preset", Preset)
def test_the_largest_order_of_the_preset_is_allowed(preset: Preset) -> None:
    """`max_pct` of config/risk.yaml is the most that one token may take of the capital."""
    capital = Decimal(2_000)
    largest = capital * risk_policy().sizing[preset].max_pct / 100
    assert limits.limits_of(chains.terms(), capital, preset).max_trade >= largest * USDC_UNIT


@pytest.mark.parametrize(
    "change",
    [{"daily_notional_pct": 5}, {"total_loss_budget_pct": 1}, {"loss_budget_pct": 0}, {"max_trade_pct": 101}],
)
def test_shares_that_contradict_each_other_are_refused(change: dict[str, int]) -> None:
    valid = limits.policy().limits[Preset.CONSERVATIVE].model_dump()
    with pytest.raises(ValidationError):
        limits.Shares.model_validate(valid | change)


def test_a_missing_preset_is_named() -> None:
    whole = limits.policy().model_dump()
    del whole["limits"][Preset.MODERATE]
    with pytest.raises(ValidationError, match="missing moderate"):
        limits.SafePolicy.model_validate(whole)
