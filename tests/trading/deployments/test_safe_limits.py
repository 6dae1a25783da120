"""The limits of a Safe that its owner chooses: within the platform's, in the order that the contract demands."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import InvalidInput, Rejected
from maxxit.core.terms import Preset
from tests import builders as make
from tests.surface.test_wallet_page import safe_of
from trading.chain import chains
from trading.deployments import safe_limits
from trading.venues.safe import limits

D = Decimal
TERMS = chains.terms()
AMOUNT = st.integers(0, 2 * TERMS.daily_notional)
CHOICE = st.fixed_dictionaries(
    dict.fromkeys(limits.CHOSEN, AMOUNT) | {"trades_per_day": st.integers(0, 2 * TERMS.trades_per_day)}
)


@given(CHOICE)
def test_a_choice_without_problems_is_a_policy_of_the_contract_and_never_looser_than_the_platform(
    chosen: dict[str, int],
) -> None:
    """The rules are those of `_check` in TradingModule.vy."""
    allowed = (
        all(0 < chosen[name] <= getattr(TERMS, name) for name in limits.CHOSEN)
        and TERMS.min_trade <= chosen["max_trade"] <= chosen["daily_notional"]
        and chosen["loss_budget"] <= chosen["total_loss_budget"]
    )
    assert (limits.problems_of(TERMS, chosen) == {}) is allowed
    if allowed:
        wanted = limits.with_choice(TERMS, TERMS, chosen)
        assert {name: getattr(wanted, name) for name in limits.CHOSEN} == chosen


@given(CHOICE, st.decimals("10", "100000", places=2), st.sampled_from(Preset))
def test_a_stored_choice_is_held_within_what_the_platform_allows_now(
    chosen: dict[str, int], capital: Decimal, preset: Preset
) -> None:
    wanted = limits.with_choice(TERMS, limits.limits_of(TERMS, capital, preset), chosen)
    assert all(1 <= getattr(wanted, name) <= getattr(TERMS, name) for name in limits.CHOSEN)


@pytest.mark.django_db
def test_wrong_limits_are_each_named() -> None:
    row = safe_of(User.objects.create_user("alice"))
    given: dict[str, Any] = {
        "max_trade": D("9"), "trades_per_day": D("1.5"), "loss_budget": D("NaN"), "daily_notional": D(20_000),
        "min_trade": D(1),
    }  # fmt: skip
    with pytest.raises(InvalidInput) as refused:
        safe_limits.propose(row, given, by="alice")
    assert set(refused.value.problems) == {"trades_per_day", "loss_budget", "min_trade"}
    with pytest.raises(InvalidInput) as refused:
        safe_limits.propose(row, {"max_trade": D(9), "daily_notional": D(20_000)}, by="alice")
    assert refused.value.problems == {
        "max_trade": "enter 10.00 USDC to 1,000.00 USDC, not 9.00 USDC",
        "daily_notional": "enter 10.00 USDC to 10,000.00 USDC, not 20,000.00 USDC",
    }
    with pytest.raises(InvalidInput) as refused:
        safe_limits.propose(row, {"max_trade": D(500), "daily_notional": D(400)}, by="alice")
    assert (
        "400.00 USDC is below the limit of one order, 500.00 USDC" in refused.value.problems["daily_notional"]
    )
    with pytest.raises(Rejected, match="in force already"):
        safe_limits.propose(row, {"max_trade": D(1000)}, by="alice")


@pytest.mark.django_db
def test_without_limits_in_force_none_are_changed() -> None:
    alice = User.objects.create_user("alice")
    revoked = safe_of(alice, state="revoked")
    with pytest.raises(Rejected, match="revoked for good"):
        safe_limits.in_force(revoked)
    draft = make.deployment(make.agent(venue="safe", owner=alice), owner=alice, state="draft", funded=False)
    with pytest.raises(Rejected, match="no limits in force"):
        safe_limits.in_force(draft)
