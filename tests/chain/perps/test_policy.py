"""The perps policy: its bounds, who may change what, tightened at once and loosened after a delay."""

import re
from dataclasses import replace
from typing import Any

import pytest

from maxxit.ops.devchain.world import Reverted
from tests.chain.perps.lab import DAY, USDC, PerpLab, reverts
from trading.venues.gmx.contract import module as p
from trading.venues.safe.contract.build import PERPS, load

pytestmark = pytest.mark.chain

NOBODY = "0x" + "0" * 40
DELAY = 2 * DAY
ROGUE = "the rogue's address"
SIZE_LIMIT = 24_576
"""Bytes of code that a chain accepts (EIP-170)."""


# ------------------------------------------------------------------ the contract as a whole


def test_contract_fits_the_size_limit(lab: PerpLab) -> None:
    code = bytes.fromhex(lab.rpc("eth_getCode", lab.module, "latest")[2:])
    assert len(code) < SIZE_LIMIT, f"{len(code)} bytes"


def test_each_reason_is_its_own_name() -> None:
    """Reasons are numbers in the source; a revert shows them as text."""
    source = (PERPS / "PerpModule.vy").read_text()
    block = source[source.index("# Reasons of a revert") : source.index("USDC: public(immutable")]
    reasons = dict(re.findall(r"^(\w+): constant\(uint256\) = (\d+)$", block, re.M))
    assert {name: int.from_bytes(name.encode()) for name in reasons} == {
        name: int(value) for name, value in reasons.items()
    }
    used = set(re.findall(r"self\._require\(.*?, ([A-Z_]+)\)$", source, re.M))
    used |= set(re.findall(r"^ +([A-Z_]+),\n +\)$", source, re.M))
    assert used == set(reasons)


def test_no_upgrade_and_no_admin() -> None:
    writers = {
        entry["name"]
        for entry in load("PerpModule")["abi"]
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }
    assert writers == {
        "set_policy", "cancel_loosening", "revoke", "stop", "resume", "release_trade", "open_position",
        "close_position", "cancel_order", "claim_funding", "settle",
    }  # fmt: skip


def test_executor_names_no_receiver_feed_or_token() -> None:
    calls = {
        entry["name"]: entry["inputs"] for entry in load("PerpModule")["abi"] if entry["type"] == "function"
    }
    for name in ("open_position", "close_position", "cancel_order"):
        addresses = [part["name"] for part in calls[name] if part["type"] == "address"]
        assert set(addresses) <= {"safe", "market"}


def test_only_gmx_callbacks_reach_the_default_function(lab: PerpLab) -> None:
    for data in (b"", b"\x01\x02\x03\x04" + bytes(96)):
        with pytest.raises(Reverted):
            lab.send("rogue", data)


# ------------------------------------------------------------------ bounds

BAD_POLICIES: list[tuple[dict[str, Any], str]] = [
    ({"executor": NOBODY}, "POLICY_KEYS"), ({"guardian": NOBODY}, "POLICY_KEYS"),
    ({"fee_receiver": NOBODY}, "POLICY_RECEIVER"), ({"profit_receiver": NOBODY}, "POLICY_RECEIVER"),
    ({"min_collateral": 10 * USDC - 1}, "POLICY_COLLATERAL"), ({"max_collateral": 9 * USDC}, "POLICY_COLLATERAL"),
    ({"daily_collateral": 99 * USDC}, "POLICY_COLLATERAL"), ({"daily_collateral": 2**44}, "POLICY_COLLATERAL"),
    ({"max_leverage_bps": 9_999}, "POLICY_LEVERAGE"), ({"max_leverage_bps": 1_000_001}, "POLICY_LEVERAGE"),
    ({"max_notional": 0}, "POLICY_NOTIONAL"), ({"daily_notional": 999 * USDC}, "POLICY_NOTIONAL"),
    ({"daily_notional": 2**44}, "POLICY_NOTIONAL"), ({"trades_per_day": 0}, "POLICY_TRADES"),
    ({"trades_per_day": 2**44}, "POLICY_TRADES"), ({"cooldown": DAY + 1}, "POLICY_COOLDOWN"),
    ({"slippage_bps": 0}, "POLICY_SLIPPAGE"), ({"slippage_bps": 501}, "POLICY_SLIPPAGE"),
    ({"max_execution_fee": 0}, "POLICY_EXECUTION"), ({"max_execution_fee": 10**18 + 1}, "POLICY_EXECUTION"),
    ({"loss_budget": 10 * USDC}, "POLICY_BUDGET"), ({"total_loss_budget": 249 * USDC}, "POLICY_BUDGET"),
    ({"total_loss_budget": 2**44}, "POLICY_BUDGET"), ({"profit_share_bps": 2_001}, "POLICY_SHARE"),
    ({"trade_fee": 200_001}, "POLICY_FEE"), ({"loosen_delay": 30 * DAY + 1}, "POLICY_DELAY"),
]  # fmt: skip


def test_policy_bounds_are_enforced(lab: PerpLab) -> None:
    """Share <= 20 %, fee <= 0.2 USDC, collateral >= 10 USDC, leverage <= 100, nothing zero, missing or absurd."""
    for change, reason in BAD_POLICIES:
        with reverts(reason):
            lab.sign(**change)
    with reverts("POLICY_KEYS"):
        lab.sign(guardian=lab.world.accounts["executor"])
    with reverts("POLICY_KEYS"):
        lab.sign(executor=lab.safe)
    bounds = {change for changes, _ in BAD_POLICIES for change in changes}
    assert bounds == set(p.Policy.__dataclass_fields__), "a limit without a bound"


def test_a_budget_of_exactly_one_trade_is_accepted(lab: PerpLab) -> None:
    assert [log.name for log in lab.sign(loss_budget=10 * USDC + 200_000)] == ["PolicySet"]


def test_market_rules_are_checked(lab: PerpLab) -> None:
    weth, wbtc = lab.rules()
    bad: tuple[list[p.MarketRule], ...] = (
        [], [weth, weth], [replace(weth, max_age=0)], [replace(weth, max_age=2 * DAY + 1)],
        [replace(weth, market=NOBODY)], [replace(weth, allow_long=False, allow_short=False)],
        [replace(weth, token_decimals=23)], [replace(weth, token_decimals=2**255)],
    )  # fmt: skip
    for rules in bad:
        with reverts("POLICY_MARKETS"):
            lab.send(lab.safe, p.set_policy_data(lab.demo(), rules))
    with pytest.raises(Reverted):
        lab.sign([replace(weth, feed=NOBODY)])
    with pytest.raises(Reverted):
        lab.sign([replace(weth, market=f"0x{number:040x}") for number in range(1, 10)])
    lab.sign([replace(weth, market=f"0x{number:040x}") for number in range(1, 9)])
    lab.sign([weth, wbtc])
    assert lab.listed() == (weth, wbtc)


# ------------------------------------------------------------------ who may change what


def test_only_the_safe_changes_its_policy(lab: PerpLab) -> None:
    lab.sign()
    before = lab.policy()
    for stranger in ("executor", "guardian", "rogue"):
        executor = lab.world.accounts["trader"]
        lab.send(
            stranger, p.set_policy_data(lab.demo(max_collateral=50 * USDC, executor=executor), lab.rules())
        )
        assert lab.policy() == before


def test_guardian_can_only_stop(lab: PerpLab) -> None:
    lab.sign()
    lab.send("guardian", p.call_data("stop", lab.safe, p.NO_ENTRIES))
    lab.send("guardian", p.call_data("stop", lab.safe, p.HALTED))
    for level in (0, p.NO_ENTRIES, p.HALTED, p.HALTED + 1):
        with reverts("STOP_LEVEL"):
            lab.send("guardian", p.call_data("stop", lab.safe, level))
    lab.send("guardian", p.call_data("resume"))
    assert lab.headroom().stop_level == p.HALTED, "only the Safe resumes"
    lab.sign()
    assert lab.headroom().stop_level == p.HALTED, "a new policy lifts no stop"
    lab.send(lab.safe, p.call_data("resume"))
    assert lab.headroom().stop_level == 0


def test_strangers_cannot_stop(lab: PerpLab) -> None:
    lab.sign()
    for stranger in ("executor", "rogue", "owner"):
        with reverts("NOT_GUARDIAN"):
            lab.send(stranger, p.call_data("stop", lab.safe, p.HALTED))
    lab.send(lab.safe, p.call_data("revoke"))
    with reverts("NOT_GUARDIAN"):
        lab.send("guardian", p.call_data("stop", lab.safe, p.HALTED))


# ------------------------------------------------------------------ tightened at once, loosened after a delay

# Each limit: a stricter and a looser value than the policy in `delayed`. None: no value is stricter.
DIRECTIONS: list[tuple[str, Any, Any]] = [
    ("executor", None, ROGUE), ("guardian", None, ROGUE), ("fee_receiver", None, ROGUE),
    ("profit_receiver", None, ROGUE), ("min_collateral", 30 * USDC, 10 * USDC),
    ("max_collateral", 90 * USDC, 110 * USDC), ("max_leverage_bps", 90_000, 110_000),
    ("max_notional", 900 * USDC, 1_100 * USDC), ("daily_collateral", 900 * USDC, 1_100 * USDC),
    ("daily_notional", 9_000 * USDC, 11_000 * USDC), ("trades_per_day", 23, 25), ("cooldown", 90, 30),
    ("slippage_bps", 90, 110), ("max_execution_fee", 10**16, 10**18), ("loss_budget", 240 * USDC, 260 * USDC),
    ("total_loss_budget", 900 * USDC, 1_100 * USDC), ("profit_share_bps", 900, 1_100),
    ("trade_fee", 90_000, 110_000), ("loosen_delay", 3 * DAY, 0),
]  # fmt: skip
DELAYED = {
    "min_collateral": 20 * USDC,
    "cooldown": 60,
    "profit_share_bps": 1_000,
    "trade_fee": 100_000,
    "loosen_delay": DELAY,
}


def delayed(lab: PerpLab) -> p.Policy:
    """Sets, and returns, a policy whose loosening waits two days."""
    lab.sign(None, **DELAYED)
    return lab.policy()


def loosen(lab: PerpLab, **changes: Any) -> list[str]:
    """The Safe sets the delayed policy with changes; the names of the events."""
    return [log.name for log in lab.sign(None, **{**DELAYED, **changes})]


def test_every_limit_of_the_policy_has_a_direction() -> None:
    assert {name for name, _, _ in DIRECTIONS} == set(p.Policy.__dataclass_fields__)


@pytest.mark.parametrize(("name", "stricter", "looser"), DIRECTIONS)
def test_each_limit_tightens_at_once_and_loosens_after_the_delay(
    lab: PerpLab, name: str, stricter: Any, looser: Any
) -> None:
    before = delayed(lab)
    if stricter is not None:
        assert loosen(lab, **{name: stricter}) == ["PolicySet"]
        assert lab.policy() == replace(before, **{name: stricter})
        lab.fresh()
        delayed(lab)
    wanted = lab.world.accounts["rogue"] if looser is ROGUE else looser
    assert loosen(lab, **{name: wanted}) == ["PolicyPending", "PolicyTightened"]
    assert (lab.policy(), lab.headroom().loosens_at > 0) == (before, True)
    lab.advance(DELAY - 30)
    assert lab.policy() == before
    lab.advance(60)
    assert lab.policy() == replace(before, **{name: wanted})  # type: ignore[arg-type]  # by name
    assert (lab.pending(), lab.headroom().loosens_at) == (None, 0)


def test_stricter_limits_of_a_pending_policy_hold_at_once(lab: PerpLab) -> None:
    before = delayed(lab)
    changes: dict[str, Any] = {
        "max_collateral": 50 * USDC,
        "loss_budget": 500 * USDC,
        "max_leverage_bps": 20_000,
    }
    loosen(lab, **changes)
    assert lab.policy() == before.stricter(replace(before, **changes))
    assert (lab.policy().max_collateral, lab.policy().loss_budget) == (50 * USDC, 250 * USDC)
    pending = lab.pending()
    assert pending is not None
    assert (pending.policy.loss_budget, pending.rules) == (500 * USDC, tuple(lab.rules()))
    assert 0 <= pending.effective_at - DELAY - lab.world.now() + 1 <= 2


def test_safe_and_guardian_can_cancel_a_loosening_and_nobody_else(lab: PerpLab) -> None:
    before = delayed(lab)
    for canceller in ("guardian", lab.safe):
        loosen(lab, max_collateral=200 * USDC)
        for stranger in ("executor", "owner", "rogue"):
            with reverts("NOT_GUARDIAN"):
                lab.send(stranger, p.call_data("cancel_loosening", lab.safe))
        logs = lab.send(canceller, p.call_data("cancel_loosening", lab.safe))
        assert [log.name for log in logs] == ["LooseningCancelled"]
        assert lab.pending() is None
        lab.advance(DELAY + 1)
        assert lab.policy() == before
        with reverts("NOTHING_PENDING"):
            lab.send(canceller, p.call_data("cancel_loosening", lab.safe))


def test_a_loosening_whose_time_has_come_cannot_be_cancelled(lab: PerpLab) -> None:
    delayed(lab)
    loosen(lab, max_collateral=200 * USDC)
    lab.advance(DELAY + 1)
    with reverts("NOTHING_PENDING"):
        lab.send("guardian", p.call_data("cancel_loosening", lab.safe))
    assert lab.policy().max_collateral == 200 * USDC


def test_a_later_policy_replaces_the_pending_one_and_waits_its_own_delay(lab: PerpLab) -> None:
    before = delayed(lab)
    loosen(lab, max_collateral=200 * USDC)
    lab.advance(DAY)
    loosen(lab, max_collateral=300 * USDC)
    lab.advance(DAY + 60)
    assert lab.policy() == before
    loosen(lab)
    lab.advance(2 * DAY)
    assert (lab.policy(), lab.pending()) == (before, None), "the Safe's latest policy is the one that counts"


def test_a_shorter_delay_waits_the_longer_one(lab: PerpLab) -> None:
    delayed(lab)
    loosen(lab, loosen_delay=0)
    wider = {"loosen_delay": 0, "max_collateral": 200 * USDC}
    assert loosen(lab, **wider) == ["PolicyPending", "PolicyTightened"]
    lab.advance(DELAY + 1)
    assert loosen(lab, loosen_delay=0, max_collateral=300 * USDC) == ["PolicyLoosened", "PolicySet"]


def test_revoke_drops_a_pending_policy_and_the_delay_outlasts_it(lab: PerpLab) -> None:
    delayed(lab)
    loosen(lab, max_collateral=200 * USDC)
    lab.send(lab.safe, p.call_data("revoke"))
    assert lab.pending() is None
    assert lab.policy().executor == NOBODY
    lab.advance(DELAY + 1)
    assert lab.policy().executor == NOBODY
    assert loosen(lab) == ["PolicyPending"], "revoking and signing anew is no way round the delay"
    assert lab.policy().executor == NOBODY
    lab.advance(DELAY + 1)
    assert lab.policy().executor == lab.world.accounts["executor"]


def test_another_market_feed_or_side_waits_and_what_is_removed_goes_at_once(lab: PerpLab) -> None:
    weth, wbtc = lab.rules()
    long_only = replace(weth, allow_short=False)

    def signed(*rules: p.MarketRule) -> list[str]:
        return [log.name for log in lab.sign(list(rules), loosen_delay=DELAY)]

    signed(long_only)
    looser = (
        [long_only, wbtc],
        [replace(long_only, feed=wbtc.feed)],
        [replace(long_only, max_age=7_200)],
        [replace(long_only, token_decimals=8)],
        [weth],
        [replace(weth, allow_long=False)],
    )
    for rules in looser:
        assert signed(*rules) == ["PolicyPending", "PolicyTightened"], rules
        kept = replace(long_only, allow_long=rules[0].allow_long)
        assert lab.listed() == (kept,)
        lab.send("guardian", p.call_data("cancel_loosening", lab.safe))
        lab.fresh()
        signed(long_only)
    assert signed(replace(long_only, max_age=600)) == ["PolicySet"]
    assert signed(wbtc, weth) == ["PolicyPending", "PolicyTightened"]
    assert lab.listed() == (replace(long_only, max_age=600),)
    assert signed(wbtc) == ["PolicyPending", "PolicyTightened"]
    assert lab.listed() == (), "a market that the pending policy leaves out cannot be opened any more"
    lab.advance(DELAY + 1)
    assert lab.listed() == (wbtc,)


def test_events_alone_rebuild_the_policy(lab: PerpLab) -> None:
    def book() -> p.Book:
        return p.rebuild(lab.logs())[lab.safe]

    delayed(lab)
    assert (book().policy, book().rules) == (lab.policy(), lab.listed())
    loosen(lab, max_collateral=200 * USDC, cooldown=600)
    assert (book().policy, book().pending) == (lab.policy(), lab.pending())
    lab.send("guardian", p.call_data("cancel_loosening", lab.safe))
    assert (book().policy, book().pending) == (lab.policy(), None)
    loosen(lab, max_collateral=200 * USDC)
    lab.advance(DELAY + 1)
    lab.send("guardian", p.call_data("stop", lab.safe, p.NO_ENTRIES))
    assert (book().policy, book().rules, book().stop_level) == (lab.policy(), lab.listed(), p.NO_ENTRIES)
    lab.send(lab.safe, p.call_data("resume"))
    lab.send(lab.safe, p.call_data("revoke"))
    assert (book().policy, book().pending, book().stop_level) == (None, None, 0)
