"""Every fee model by its properties, the defaults of each, and what a configuration may say."""

from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.fees import (
    RULE,
    FeeRule,
    Flat,
    Percentage,
    ProfitShare,
    Subscription,
    Tiered,
    is_dearer,
    share_profit,
)
from maxxit.core.errors import Misconfigured
from maxxit.core.money import usdc
from trading.operations.limit_changes import is_looser, limits_by_key, with_limits
from trading.risk.limits_in_force import _loaded
from trading.risk.policy import Fees, policy

D = Decimal
cents = st.decimals(min_value=-100_000, max_value=100_000, places=6)
amounts = st.decimals(min_value=0, max_value=100_000, places=18)
FLAT = "flat amount_usdc=0.2"
positive = st.decimals(min_value=D("0.000001"), max_value=100_000, places=6)
rates = st.decimals(min_value=0, max_value=1, places=4)
shares = rates.map(lambda rate: ProfitShare(model="profit_share", minimum_usdc=D(0)).with_rate(rate))
percents = st.decimals(min_value=1, max_value=100, places=2)
bounded = st.one_of(
    st.builds(
        Percentage,
        model=st.just("percentage"),
        rate_pct=st.decimals("0.1", 1, places=2),
        minimum_usdc=positive,
    ),
    st.builds(ProfitShare, model=st.just("profit_share"), rate_pct=percents, minimum_usdc=positive),
    st.builds(
        Tiered,
        model=st.just("tiered"),
        tiers=st.dictionaries(st.integers(1, 1000).map(D), percents, max_size=4).map(
            lambda tiers: dict(sorted({D(0): D(5), **tiers}.items()))
        ),
        minimum_usdc=positive,
    ),
)
flats = st.builds(Flat, model=st.just("flat"), amount_usdc=st.decimals(0, 20, places=6))
rules = st.one_of(flats, bounded)


@given(rules, amounts)
def test_a_fee_is_whole_base_units_of_usdc_and_never_negative(rule: FeeRule, base: Decimal) -> None:
    fee = rule.charge(base)

    assert fee >= 0
    assert fee.as_tuple().exponent == -6


@given(bounded, amounts)
def test_a_fee_is_at_least_its_minimum_and_at_most_what_it_is_charged_on(rule: Any, base: Decimal) -> None:
    fee = rule.charge(base)

    assert fee <= usdc(base)
    assert fee >= min(rule.minimum_usdc, usdc(base))


@given(flats, amounts, amounts)
def test_a_flat_fee_is_the_same_for_every_amount(rule: Flat, one: Decimal, other: Decimal) -> None:
    assert rule.charge(one) == rule.charge(other) == rule.amount_usdc


@given(rules, amounts, amounts)
def test_who_trades_or_earns_more_never_pays_less(rule: FeeRule, one: Decimal, other: Decimal) -> None:
    if isinstance(rule, Tiered) and list(rule.tiers.values()) != sorted(rule.tiers.values()):
        return
    assert rule.charge(min(one, other)) <= rule.charge(max(one, other))


@given(amounts, st.decimals("0.1", 1, places=2))
def test_a_percentage_is_that_share_of_what_was_traded(traded: Decimal, rate: Decimal) -> None:
    rule = Percentage(model="percentage", rate_pct=rate, minimum_usdc=D(0))

    assert abs(rule.charge(traded) - traded * rate / 100) <= D("0.0000005")


@given(st.integers(0, 120), st.decimals("0.01", "0.99", places=2))
def test_a_subscription_is_due_for_every_month_that_has_begun(months: int, part: Decimal) -> None:
    rule = Subscription(model="subscription")

    assert rule.charge(D(months)) == 20 * months
    assert rule.charge(months + part) == 20 * (months + 1)


@given(amounts)
def test_tiers_of_one_rate_are_a_profit_share(base: Decimal) -> None:
    tiered = Tiered(model="tiered", tiers={D(0): D(10), D(7): D(10), D(500): D(10)})

    assert tiered.charge(base) == ProfitShare(model="profit_share").charge(base)


@pytest.mark.parametrize(
    ("rule", "base", "fee"),
    [
        ("profit_share", "100", "10"),
        ("profit_share", "0.05", "0.01"),
        ("profit_share", "0.004", "0.004"),
        ("flat", "100", "0.50"),
        ("percentage", "1000", "1"),
        ("percentage", "3", "0.01"),
        ("tiered", "99.999999", "5"),
        ("tiered", "100", "10"),
        ("tiered", "500", "50"),
        ("tiered", "500.000001", "75"),
        ("subscription", "1", "20"),
    ],
)
def test_the_defaults_are_those_of_the_fee_models_that_were_asked_for(rule: str, base: str, fee: str) -> None:
    assert RULE.validate_python(rule).charge(D(base)) == D(fee)


@given(st.lists(cents, max_size=30), rates)
def test_the_shares_sum_to_the_rate_times_the_high_water_mark(earned: list[Decimal], rate: Decimal) -> None:
    carried, paid = D(0), D(0)
    rule = ProfitShare(model="profit_share", minimum_usdc=D(0)).with_rate(rate)
    for one in earned:
        shared = share_profit(rule, one, carried)
        carried, paid = shared.carried_loss, paid + shared.share
        assert shared.share >= 0
        assert carried >= 0
    high = max(accumulate(earned, initial=D(0)))

    assert abs(paid - rate * high) <= D("0.0000005") * max(len(earned), 1)


def _former(earned: Decimal, carried_loss: Decimal, rate: Decimal) -> tuple[Decimal, Decimal]:
    """The profit share as it was computed before fees were rules."""
    if earned <= 0:
        return D(0), carried_loss - earned
    above = max(earned - carried_loss, D(0))
    return usdc(above * rate), max(carried_loss - earned, D(0))


@given(
    st.decimals(-100_000, 100_000, places=18),
    st.decimals(0, 100_000, places=18),
    st.decimals(0, 1, places=6),
)
def test_the_share_in_force_is_to_the_byte_what_it_was(
    earned: Decimal, carried: Decimal, rate: Decimal
) -> None:
    shared = share_profit(policy().fees.profit.with_rate(rate), earned, carried)
    share, left = _former(earned, carried, rate)

    assert (f"{shared.share:f}", f"{shared.carried_loss:f}") == (f"{share:f}", f"{left:f}")


@given(amounts)
def test_the_fee_per_trade_in_force_is_what_it_was(traded: Decimal) -> None:
    assert policy().fees.trade.charge(traded) == D("0.2")
    assert policy().fees.module_fee_usdc == D("0.2")


@given(rules, positive, positive)
def test_a_loser_pays_nothing_and_carries_its_loss(rule: FeeRule, earned: Decimal, carried: Decimal) -> None:
    shared = share_profit(rule, -earned, carried)

    assert (shared.share, shared.carried_loss) == (0, carried + earned)


@given(rules, positive, positive)
def test_only_what_is_earned_beyond_the_carried_loss_is_charged(
    rule: FeeRule, earned: Decimal, carried: Decimal
) -> None:
    shared = share_profit(rule, earned, carried)

    assert shared.share <= max(earned - carried, D(0))
    assert shared.carried_loss == max(carried - earned, D(0))


@given(rules)
def test_the_text_of_a_rule_reads_back_as_the_rule(rule: FeeRule) -> None:
    assert RULE.validate_python(rule.text()) == rule
    assert not is_dearer(rule.text(), rule.text())


@given(rules, rules, amounts)
def test_a_change_that_is_not_dearer_charges_nobody_more(old: FeeRule, new: FeeRule, base: Decimal) -> None:
    if not is_dearer(old.text(), new.text()):
        assert new.charge(base) <= old.charge(base)


@pytest.mark.parametrize(
    ("old", "new", "looser"),
    [
        ("flat amount_usdc=0.2", "flat amount_usdc=0.1", False),
        ("flat amount_usdc=0.1", "flat amount_usdc=0.2", True),
        ("flat amount_usdc=0.2", "percentage rate_pct=0.1", True),
        ("percentage rate_pct=0.2", "percentage rate_pct=0.1", False),
        ("percentage", "percentage minimum_usdc=1", True),
        ("tiered", "tiered tiers=0:5,100:10,500.000001:14", False),
        ("tiered", "tiered tiers=0:5,99:10,500.000001:14", True),
    ],
)
def test_a_dearer_rule_waits_and_a_cheaper_one_does_not(old: str, new: str, looser: bool) -> None:
    assert is_looser("fees.trade", old, new) == looser


def test_a_rule_in_force_takes_the_place_of_the_configured_one() -> None:
    found = with_limits(
        policy(), limits_by_key(policy()) | {"fees.trade": "percentage rate_pct=0.2 minimum_usdc=0"}
    )

    assert found.fees.trade.charge(D(1000)) == 2
    assert found.fees.profit == policy().fees.profit


def test_the_fee_in_force_from_before_fees_were_rules_still_holds() -> None:
    assert _loaded({"fees.platform_fee_usdc": "0.1"}) == {"fees.trade": "flat amount_usdc=0.1"}


@pytest.mark.parametrize(
    "given",
    [
        {"platform_fee_usdc": "0.2"},
        {"trade": "flat amount_usdc=0.2"},
        policy().fees.model_dump(exclude_unset=True),
    ],
)
def test_the_former_key_and_both_forms_say_the_same(given: dict[str, Any]) -> None:
    found = Fees.model_validate(given)

    assert found.trade == policy().fees.trade
    assert found.profit == policy().fees.profit


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"platform_fee_usdc": "0.3"}, "a flat fee is at most 0.2 USDC"),
        ({"trade": {"model": "flat", "amount_usdc": "0.21"}}, "a flat fee is at most 0.2 USDC"),
        ({"trade": {"model": "flat", "amount_usdc": "-0.1"}}, "greater than or equal to 0"),
        ({"trade": {"model": "flat", "amount_usdc": "0.0000001"}}, "6 decimal places"),
        ({"trade": "subscription"}, "the model subscription cannot be charged on a trade"),
        ({"trade": "tiered"}, "the model tiered cannot be charged on a trade"),
        ({"trade": "flat"}, "trade: flat needs amount_usdc"),
        ({"trade": FLAT, "profit": "tiered tiers=0:5"}, "profit: tiered needs minimum_usdc"),
        ({"trade": FLAT, "profit": "percentage"}, "cannot be charged on a profit"),
        ({"trade": "percentage rate_pct=0.001"}, "greater than or equal to 0.1"),
        ({"trade": FLAT, "profit": "profit_share rate_pct=20 minimum_usdc=0"}, "leave rate_pct out"),
        ({"trade": FLAT, "profit": "tiered tiers=100:5"}, "the first tier begins at 0"),
        ({"trade": "some"}, "does not match any of the expected tags"),
        ({"trade": "flat amount_usd=0.1"}, "Extra inputs are not permitted"),
        ({}, "Field required"),
    ],
)
def test_a_wrong_rule_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Fees.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [{"trade": "percentage rate_pct=0.1 minimum_usdc=0"}, {"trade": FLAT, "profit": "flat amount_usdc=1"}],
)
def test_a_safes_module_takes_a_flat_fee_and_a_profit_share_only(given: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="a Safe's module takes only"):
        _ = Fees.model_validate(given).module_fee_usdc
