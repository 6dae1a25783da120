"""A plan that cannot work is refused with numbers, computed from presets, minimum, fee and target."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.fees import Flat, Percentage
from maxxit.core.terms import ExitPreset, Preset
from trading.deployments.plan_check import Costs, capital_needed, check_plan, first_orders
from trading.risk.policy import RiskPolicy, policy

D = Decimal
FLAT = Costs(Flat(model="flat", amount_usdc=D("0.2")))
PAPER = Costs(FLAT.trade, venue_pct=D("0.3"))
CAPITAL = st.decimals("0.01", "10000000", places=2)


def plan(capital: str | Decimal, preset: str, exits: str = "signal", costs: Costs = FLAT, **own: Any) -> Any:
    return check_plan(D(capital), preset, exits, policy(), costs, **own)


def test_the_refusal_names_orders_minimum_fee_and_what_would_work() -> None:
    found = plan("500", "conservative")
    assert found.problems == [
        "with 500 USDC, conservative would place orders of 5, 10 or 20 USDC; the minimum is 10 and the fee 0.20: "
        "choose moderate, or 1,000 USDC"
    ]
    assert found.orders == {"low": 5, "medium": 10, "high": 20}
    assert (found.minimum, found.capital_needed, found.alternatives) == (10, 1000, ["moderate", "aggressive"])
    assert not found.ok


def test_where_no_preset_works_the_capital_that_does_is_named() -> None:
    [problem] = plan("20", "aggressive").problems
    assert problem.endswith(
        "orders of 1, 2 or 3 USDC; the minimum is 10 and the fee 0.20: start with 200 USDC"
    )


def test_at_the_very_minimum_it_works_and_says_that_fees_end_it() -> None:
    found = plan("1000", "conservative")
    assert found.ok
    assert "the smallest orders are 10 USDC and the minimum is 10" in found.notes[0]
    assert plan("5000", "conservative").notes == []


def test_a_target_that_the_costs_eat_is_refused() -> None:
    [problem] = plan(
        "500", "moderate", "aggressive", Costs(Flat(model="flat", amount_usdc=D(1)), D("0.3"))
    ).problems
    assert problem == (
        "the exit preset aggressive takes profit at 0.5 %, and an order of 40 USDC costs 2.80 % (fee 1.00 USDC, venue "
        "0.3 %): choose an exit preset with a higher target, or more capital"
    )
    some = plan("3000", "moderate", "aggressive", PAPER)
    assert some.ok
    assert any("an order of 60 USDC costs 0.63 %" in note for note in some.notes)
    assert plan("100000", "moderate", "aggressive", PAPER).notes == []


def test_the_owners_limits_count_too() -> None:
    assert any(
        "your limit of 5 USD a position is below" in one
        for one in plan("5000", "moderate", max_position=D(5)).problems
    )
    found = plan("5000", "moderate", max_position=D(300), max_daily=D(100))
    assert found.ok
    assert any("300 USD a position blocks orders of 400 USDC" in note for note in found.notes)
    assert any("100 USD a day blocks orders of 250 or 400 USDC" in note for note in found.notes)


def test_a_venue_with_a_larger_minimum_counts() -> None:
    [problem] = plan("1000", "conservative", costs=Costs(FLAT.trade, venue_minimum=D(50))).problems
    assert "the minimum is 50" in problem
    assert "5,000 USDC" in problem


@given(CAPITAL, st.sampled_from(Preset), st.sampled_from(ExitPreset))
def test_it_is_refused_for_its_size_exactly_where_an_order_is_below_the_minimum(
    capital: Decimal, preset: Preset, exits: ExitPreset
) -> None:
    found = plan(capital, preset, exits)
    small = min(found.orders.values()) < found.minimum
    assert small == any("would place orders of" in problem for problem in found.problems)
    for name in found.alternatives:
        assert not any("would place" in problem for problem in plan(capital, name, exits).problems)


@given(CAPITAL, st.sampled_from(Preset))
def test_the_capital_that_is_named_is_the_least_that_works(capital: Decimal, preset: Preset) -> None:
    rules, minimum = policy().sizing[preset], policy().sizing[preset].min_usd
    needed = capital_needed(rules, minimum)
    assert needed is not None
    assert min(first_orders(rules, needed).values()) >= minimum
    assert min(first_orders(rules, needed - D("0.01")).values()) < minimum


@given(CAPITAL)
def test_a_fee_by_rate_is_charged_on_each_order(capital: Decimal) -> None:
    found = plan(
        capital, "moderate", costs=Costs(Percentage(model="percentage", rate_pct=D("0.1"), minimum_usdc=D(0)))
    )
    for tier, fee in found.fees.items():
        assert abs(fee - found.orders[tier] / 1000) <= D("0.000001")


def test_a_preset_that_never_reaches_the_minimum_names_no_capital() -> None:
    body = policy().model_dump()
    body["sizing"]["conservative"]["max_usd"] = D(5)
    body["fees"] = {name: rule.text() for name, rule in policy().fees}
    found = check_plan(D(5000), Preset.CONSERVATIVE, "signal", RiskPolicy.model_validate(body), FLAT)
    assert found.capital_needed is None
    assert found.problems[0].endswith("choose moderate")


@pytest.mark.parametrize("preset", list(Preset))
def test_the_answer_is_plain_json(preset: Preset) -> None:
    body = plan("1234.56", preset).as_json()
    assert body["capital"] == "1234.56"
    assert set(body["orders"]) == {"low", "medium", "high"}
