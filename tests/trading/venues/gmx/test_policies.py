"""The limits and the permission card of perpetual futures; pure functions and the shipped configuration."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.terms import Preset
from trading.chain import chains
from trading.chain.models import SafePlan
from trading.risk.policy import policy as risk_policy
from trading.venues.gmx import limits, verify
from trading.venues.gmx.card import permission_card
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.verify import Allowed
from trading.venues.safe.limits import problems_of, with_choice

TERMS = chains.perps_terms()
USDC = 10**6
ADDRESS = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
MARKET = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
POLICY = p.Policy(ADDRESS, MARKET, ADDRESS, ADDRESS, **TERMS.model_dump())
RULE = p.MarketRule(MARKET, 18, ADDRESS, 3_600)
CAPITALS = st.decimals(1, 10**9, places=6)


@given(capital=CAPITALS, preset=st.sampled_from(list(Preset)))
def test_scaled_limits_are_never_looser_and_always_allow_a_trade(capital: Decimal, preset: Preset) -> None:
    made = limits.limits_of(TERMS, capital, preset)
    assert made.min_collateral <= made.max_collateral <= made.daily_collateral <= TERMS.daily_collateral
    assert made.max_collateral <= TERMS.max_collateral
    assert 0 < made.max_notional <= made.daily_notional <= TERMS.daily_notional
    assert made.min_collateral + limits.MOST_FEE <= made.loss_budget <= made.total_loss_budget
    assert made.loss_budget <= TERMS.loss_budget
    assert made.total_loss_budget <= TERMS.total_loss_budget
    chosen = {one.field: getattr(made, one.field) for one in limits.CHOICE.limits}
    assert problems_of(TERMS, chosen, limits.CHOICE) == {}, "an owner may keep what was proposed"


@given(low=CAPITALS, high=CAPITALS, preset=st.sampled_from(list(Preset)))
def test_more_capital_never_means_stricter_limits(low: Decimal, high: Decimal, preset: Preset) -> None:
    low, high = sorted((low, high))
    small, large = (limits.limits_of(TERMS, capital, preset) for capital in (low, high))
    assert all(getattr(small, one.field) <= getattr(large, one.field) for one in limits.CHOICE.limits)


def test_limits_of_500_usdc_in_figures() -> None:
    made = limits.limits_of(TERMS, Decimal(500), Preset.MODERATE)
    assert made.max_collateral == 100 * USDC
    assert (made.max_notional, made.max_leverage_bps) == (500 * USDC, 50_000)
    assert (made.daily_collateral, made.daily_notional) == (500 * USDC, 2_500 * USDC)
    assert (made.loss_budget, made.total_loss_budget) == (200 * USDC, 400 * USDC)
    assert limits.limits_of(TERMS, None, Preset.MODERATE) == TERMS


@pytest.mark.parametrize("preset", list(Preset))
def test_the_preset_s_own_orders_fit_into_its_collateral(preset: Preset) -> None:
    rules = risk_policy().sizing[preset]
    made = limits.limits_of(TERMS, Decimal(300), preset)
    assert made.max_collateral >= min(300 * rules.high_pct / 100 * USDC, Decimal(TERMS.max_collateral))


def test_what_an_owner_enters_is_checked_by_name() -> None:
    chosen = {one.field: getattr(TERMS, one.field) for one in limits.CHOICE.limits}
    wrong = chosen | {"max_leverage_bps": 5_000, "max_collateral": 200 * USDC, "loss_budget": 10 * USDC}
    assert problems_of(TERMS, wrong, limits.CHOICE) == {
        "max_leverage": "enter 1x to 5x, not 0.5x",
        "max_collateral": "enter 10.00 USDC to 100.00 USDC, not 200.00 USDC",
        "loss_budget": "enter 10.20 USDC to 250.00 USDC, not 10.00 USDC",
    }
    crossed = chosen | {"total_loss_budget": 100 * USDC}
    assert list(problems_of(TERMS, crossed, limits.CHOICE)) == ["total_loss_budget"]
    assert with_choice(TERMS, TERMS, {"max_leverage_bps": 20_000}, limits.CHOICE).max_leverage_bps == 20_000
    assert problems_of(TERMS, chosen | {"max_trade": 1}, limits.CHOICE) == {
        "max_trade": "no such limit; known: max_collateral, max_leverage, max_notional, daily_collateral, "
        "daily_notional, trades_per_day, loss_budget, total_loss_budget"
    }


def test_the_card_says_each_limit_in_words_and_figures() -> None:
    card = permission_card(POLICY, [RULE, replace(RULE, market=ADDRESS, allow_short=False)], {MARKET: "ETH"})
    text = card.as_text()
    for part in (
        f"positions at GMX in ETH (long and short); {ADDRESS} (long), with your USDC as collateral",
        "put 10.00 USDC to 100.00 USDC of collateral into a trade, with at most 5x leverage and a size of at most",
        "at most 24 trades with 1,000.00 USDC of collateral and 5,000.00 USDC of size together",
        "more than 1 % worse than the price feed (Chainlink)",
        "attach more than 0.02 ETH as GMX's execution fee",
        "in any 24 hours: 250.00 USDC, whatever the leverage",
        "until you sign again: 1,000.00 USDC, over 4 days at least",
        "at 5x a move of about 20 % against it is enough",
        "86400 s",
        "UNAUDITED",
    ):  # fmt: skip
        assert part.replace("86400 s", "24 hours") in text, part
    assert (card.most_lost_per_day, card.most_lost_in_total) == (250 * USDC, 1_000 * USDC)
    assert dict(card.summary)["Losses"].startswith("at most 250.00 USDC a day, 1,000.00 in all")


def plan(policy: p.Policy, *rules: p.MarketRule) -> SafePlan:
    return SafePlan(chain_id=31337, safe=ADDRESS, module=MARKET, **verify.as_plan(policy, rules))


def test_while_a_signed_plan_waits_the_stricter_of_both_is_expected() -> None:
    looser = replace(POLICY, max_collateral=50 * USDC, loss_budget=300 * USDC)
    other = replace(RULE, allow_short=False)
    before, after = plan(POLICY, RULE), plan(looser, other)
    between = replace(POLICY, max_collateral=50 * USDC)
    headroom = p.Headroom(1, 1, 1, 1, 1, 1, 0, 1)
    now = Allowed(True, between, (other,), headroom, p.PendingPolicy(1_900_000_000, looser, (other,)), 0)
    assert verify.differences(before, now, after) == []
    assert verify.differences(before, now) == [
        "max_collateral is 50.00 USDC, not 100.00 USDC",
        "the listed markets differ",
        "another policy is pending: in force from 2030-03-17 17:46:40 UTC",
    ]
    assert verify.differences(after, now) == [
        "loss_budget is 250.00 USDC, not 300.00 USDC",
        "the planned policy is pending: in force from 2030-03-17 17:46:40 UTC",
    ]
    assert verify.differences(after, replace(now, policy=looser, pending=None)) == []
