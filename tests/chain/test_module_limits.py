"""Each limit that a Safe's owners sign is shown to block on the chain: just inside it a call goes, beyond it not.

A new field of the policy or of a token's rule without a case fails here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chain.lab import DAY, USDC, Lab, reverts
from tests.chain.test_properties import erode
from trading.venues.safe.contract import module as m

pytestmark = pytest.mark.chain

Action = Callable[[Lab], Any]


def opens(name: str = "x", usdc: int = 10 * USDC, **how: Any) -> Action:
    return lambda lab: lab.open(name, usdc=usdc, **how)


def after(seconds: int, action: Action, *, fresh: bool = True) -> Action:
    def act(lab: Lab) -> None:
        lab.advance(seconds, fresh=fresh)
        action(lab)

    return act


def both(first: Action, second: Action) -> Action:
    def act(lab: Lab) -> None:
        first(lab)
        second(lab)

    return act


def skewed(factor: str, action: Action) -> Action:
    def act(lab: Lab) -> None:
        lab.skew("WETH", factor)
        action(lab)

    return act


def stops(role: str) -> Action:
    return lambda lab: lab.send(role, m.call_data("stop", lab.safe, m.HALTED))


def opened(*sizes: int) -> Action:
    """Positions of so many USDC, two seconds apart."""

    def act(lab: Lab) -> None:
        for number, usdc in enumerate(sizes):
            lab.open(str(number), usdc=usdc * USDC)
            lab.advance(2)

    return act


def drained(lab: Lab) -> None:
    """Two round trips that lose about 9 + 9 USDC each."""
    for name in "ab":
        erode(lab, name)
        lab.skew("WETH", "0.991")
        lab.close(name)
    lab.skew("WETH", "1")


def drained_days_ago(lab: Lab) -> None:
    drained(lab)
    lab.advance(2 * DAY)


def loosened(lab: Lab) -> None:
    lab.set_policy(loosen_delay=DAY, max_trade=2_000 * USDC)


def nothing(lab: Lab) -> None:
    """No preparation."""


SMALLER, LARGER = opens(usdc=500 * USDC), opens(usdc=700 * USDC)  # they reserve 5 and 7 USDC
BIG = opens(usdc=1_000 * USDC)
# The limit -> policy, what happens before, a call within the limit, one beyond it, and the reason.
CASES: dict[str, tuple[dict[str, Any], Action, Action, Action, str]] = {
    "executor": ({}, nothing, opens(), opens(by="rogue"), "NOT_EXECUTOR"),
    "guardian": ({}, nothing, stops("guardian"), stops("rogue"), "NOT_GUARDIAN"),
    "min_trade": (
        {"min_trade": 20 * USDC}, nothing, opens(usdc=20 * USDC), opens(usdc=20 * USDC - 1), "BELOW_MIN_TRADE",
    ),
    "max_trade": (
        {"max_trade": 90 * USDC}, nothing, opens(usdc=90 * USDC), opens(usdc=90 * USDC + 1), "ABOVE_MAX_TRADE",
    ),
    "daily_notional": (
        {"daily_notional": 1_000 * USDC}, opened(600), opens(usdc=400 * USDC), opens(usdc=400 * USDC + 1),
        "DAILY_NOTIONAL",
    ),
    "trades_per_day": (
        {"trades_per_day": 2}, opened(10), opens(), both(opens("y"), after(2, opens())), "TRADES_PER_DAY",
    ),
    "cooldown": ({"cooldown": 600}, opened(10), after(600, opens()), after(590, opens()), "COOLDOWN"),
    "slippage_bps": ({}, nothing, skewed("1.008", BIG), skewed("1.012", BIG), "Too little received"),
    "loss_budget": ({"loss_budget": 45 * USDC}, drained, SMALLER, LARGER, "LOSS_BUDGET"),
    "total_loss_budget": (
        {"loss_budget": 45 * USDC, "total_loss_budget": 45 * USDC}, drained_days_ago, SMALLER, LARGER, "LOSS_BUDGET",
    ),
    "loosen_delay": (
        {"loosen_delay": DAY}, loosened, after(DAY, opens(usdc=1_500 * USDC)),
        after(DAY - 60, opens(usdc=1_500 * USDC)), "ABOVE_MAX_TRADE",
    ),
}  # fmt: skip

TERMS = {"fee_receiver", "profit_receiver", "profit_share_bps", "trade_fee"}
"""What is paid, and to whom: no call can name another (`test_winner_pays_exactly_its_share`)."""


def test_every_field_of_the_policy_has_its_case() -> None:
    assert set(CASES) | TERMS == set(m.Policy.__dataclass_fields__)
    assert set(RULES) | PLACES == set(m.TokenRule.__dataclass_fields__)


@pytest.mark.parametrize("name", CASES)
def test_a_call_within_the_limit_goes_and_one_beyond_does_not(lab: Lab, name: str) -> None:
    policy, before, within, beyond, reason = CASES[name]
    for action, refused in ((within, ""), (beyond, reason)):
        lab.fresh()
        lab.set_policy(**policy)
        before(lab)
        if refused:
            with reverts(refused):
                action(lab)
        else:
            action(lab)


RULES: dict[str, tuple[dict[str, Any], Action, Action, str]] = {
    "token": ({}, opens(), opens(symbol="WBTC"), "TOKEN_NOT_LISTED"),
    "max_age": (
        {"max_age": 600},
        after(580, opens(), fresh=False),
        after(620, opens(), fresh=False),
        "FEED_STALE",
    ),
}
PLACES = {"feed", "pool_fee"}
"""Where a token is priced and traded: no call can name another (`test_executor_names_no_receiver_pool_or_feed`)."""


@pytest.mark.parametrize("name", RULES)
def test_a_tokens_rule_holds(lab: Lab, name: str) -> None:
    change, within, beyond, reason = RULES[name]
    for action, refused in ((within, ""), (beyond, reason)):
        lab.fresh()
        lab.set_policy([replace(lab.world.rules()[0], **change)])
        lab.world.refresh_feeds()
        if refused:
            with reverts(refused):
                action(lab)
        else:
            action(lab)


def test_the_routers_words_and_the_safes_come_through_unchanged(lab: Lab) -> None:
    other = lab.another_safe(usdc=50 * USDC)
    with reverts("STF"):
        lab.open("a", usdc=100 * USDC, safe=other)  # it has not enough
    with reverts("Too little received"):
        lab.open("b", usdc=10 * USDC, min_out=10**30)
