"""Planted bugs: TradingModule with one fault each, run against the property tests, which must find it.

    python -m tests.chain.mutants        prints the table: planted bug -> the test that found it

A mutant is compiled, deployed, and its code put where the sound module stands, so the tests run unchanged.
"""

import inspect
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world, transact
from tests.chain import test_properties
from tests.chain.lab import Lab
from trading.venues.safe.contract.build import HERE, compile_source


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug. `hint` names the test that should find it and is tried first; any test may."""

    bug: str
    hint: str
    changes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which test found a mutant and how; `found_by` is empty when none did."""

    bug: str
    found_by: str
    why: str
    tests_run: int
    seconds: float


def _bug(bug: str, hint: str, *changes: tuple[str, str]) -> Mutant:
    return Mutant(bug, hint, changes)


_CONSUME = "    self.positions[safe][trade_id].token = token\n"
_ID_CHECK = '    assert self.positions[safe][trade_id].token == empty(address), "TRADE_ID_USED"\n'
_BOOK = "    self.positions[safe][trade_id].quantity = quantity\n"
_ROLLED = "    if elapsed < BUCKETS:\n"
_BASE = "        base = max(0, min(profit, pending - self._open_loss(safe, slot)))\n"
_PAY_SHARE = "    self._pay(safe, position.profit_receiver, share)\n"
_PAY_FEE = "    self._pay(safe, self.slots[safe][slot].fee_receiver, self.slots[safe][slot].trade_fee)\n"
_ALLOWED = '    assert staticcall IERC20(sell).allowance(safe, ROUTER) == 0, "ALLOWANCE_LEFT"\n'
_CLOSER = 'by_owner or msg.sender == self.slots[safe][slot].executor, "NOT_EXECUTOR"'
_KEEP = "    self.slots[msg.sender][other] = policy\n"
_GUARDED = '    assert msg.sender == self.slots[safe][slot].guardian or msg.sender == safe, "NOT_GUARDIAN"\n'
_SCHEDULE = "    self.schedule[msg.sender] = (effective_at << 1) | slot\n"
_STALE = "block.timestamp - updated > rule.max_age"
_CHARGED = "    charged: uint256 = shortfall + fee\n"
_FITS_CLOSE = '        assert self._fits(safe, slot, shortfall), "LOSS_BUDGET"\n'
_TOTAL = "    return self.slot_charged[safe][slot] + loss <= self.slots[safe][slot].total_loss_budget\n"

# These run in every test run; the rest is marked slow (together they take a minute and a half).
CORE = (
    "trade id not consumed",
    "trade id consumed after the swap",
    "least acceptable amount booked as received",
    "no oracle floor at open",
    "rolling day restarts at midnight",
    "share without carried losses",
    "executor receives the share",
    "unlimited allowance left to the router",
    "guardian may close",
    "executor may set the policy of its Safe",
    "loosening takes effect at once",
)

MUTANTS: tuple[Mutant, ...] = (
    _bug("trade id not consumed", "test_trade_id_is_consumed_once", (_ID_CHECK, "")),
    _bug(
        "trade id consumed after the swap", "test_trade_id_is_consumed_before_any_external_call",
        (_CONSUME, ""), (_BOOK, _CONSUME + _BOOK),
    ),
    _bug(
        "least acceptable amount booked as received", "test_amounts_are_measured_by_balance_difference",
        ("    return received\n\n\n@internal\ndef _pay", "    return least\n\n\n@internal\ndef _pay"),
    ),
    _bug(
        "no oracle floor at open", "test_oracle_floor_holds_when_the_executor_asks_for_nothing",
        ("max(min_out, least)", "min_out"),
    ),
    _bug(
        "no oracle floor at close", "test_oracle_floor_holds_when_the_executor_asks_for_nothing",
        ("        least = max(least, ", "        worth = max(worth, "),
    ),
    _bug(
        "rolling day restarts at midnight", "test_daily_notional_has_no_double_burst_at_a_boundary",
        (_ROLLED, "    if elapsed < BUCKETS and epoch // 4 == (packed >> EPOCH_SHIFT) // 4:\n"),
    ),
    _bug(
        "budget restarts each quarter day", "test_loss_budget_has_no_double_burst_at_a_boundary",
        (_ROLLED, "    if elapsed < 1:\n"),
    ),
    _bug(
        "share without carried losses", "test_loser_pays_no_share_and_is_carried_forward",
        ("    if profit > 0 and pending > 0:\n", "    if profit > 0:\n"), (_BASE, "        base = profit\n"),
    ),
    _bug(
        "share ignores losers that stay open", "test_winners_cannot_be_harvested_while_losers_stay_open",
        (_BASE, "        base = max(0, min(profit, pending))\n"),
    ),
    _bug(
        "share of the proceeds, not of the profit", "test_winner_pays_exactly_its_share",
        ("    return convert(base, uint256) * part", "    return received * part"),
    ),
    _bug(
        "executor receives the share", "test_winner_pays_exactly_its_share",
        (_PAY_SHARE, "    self._pay(safe, msg.sender, share)\n"),
    ),
    _bug(
        "share receiver of today, not of the open", "test_terms_are_those_of_the_open",
        (_PAY_SHARE, "    self._pay(safe, self.slots[safe][slot].profit_receiver, share)\n"),
    ),
    _bug(
        "unlimited allowance left to the router", "test_router_allowance_is_exact_and_zero_afterwards",
        (_ALLOWED, ""), ("abi_encode(ROUTER, amount, method", "abi_encode(ROUTER, max_value(uint256), method"),
    ),
    _bug(
        "guardian may close", "test_only_the_executor_trades",
        (_CLOSER, 'by_owner or msg.sender in [self.slots[safe][slot].executor, self.slots[safe][slot].guardian], "N"'),
    ),
    _bug(
        "anyone may close", "test_only_the_executor_trades",
        (f"    assert {_CLOSER}\n", ""),
    ),
    _bug(
        "executor may set the policy of its Safe", "test_only_the_safe_changes_its_policy",
        ("trades_window: HashMap[address, uint256]\n",
         "trades_window: HashMap[address, uint256]\nserves: HashMap[address, address]\n"),
        (_KEEP, "    served: address = self.serves[msg.sender]\n"
                "    self.slots[served][self._slot(served)] = policy\n"
                "    self.serves[policy.executor] = msg.sender\n" + _KEEP),
    ),
    _bug(
        "guardian may resume", "test_guardian_can_only_stop",
        ("assert level > self.stop_level[safe] and level <= HALTED", "assert level <= HALTED"),
    ),
    _bug(
        "anyone may stop", "test_strangers_cannot_stop",
        (_GUARDED + "    assert level >", "    assert level >"),
    ),
    _bug(
        "halt does not hold the close", "test_guardian_can_only_stop",
        ('    assert by_owner or self.stop_level[safe] < HALTED, "STOPPED"\n', ""),
    ),
    _bug("stale feed accepted", "test_stale_feed_stops_trading", (_STALE, "False")),
    _bug(
        "sequencer feed ignored", "test_sequencer_down_and_its_grace_period_stop_trading",
        ("    if SEQUENCER_FEED != empty(address):\n", "    if SEQUENCER_FEED == self:\n"),
    ),
    _bug(
        "fee outside the loss budget", "test_fees_count_against_the_loss_budget",
        (_CHARGED, "    charged: uint256 = shortfall\n"),
    ),
    _bug(
        "slippage of an open outside the loss budget", "test_loss_budget_bounds_erosion",
        (_CHARGED, "    charged: uint256 = fee\n"),
    ),
    _bug(
        "a close may go beyond the budget",
        "test_close_shortfall_beyond_its_reservation_must_fit_the_budget", (_FITS_CLOSE, "        pass\n"),
    ),
    _bug(
        "nothing reserved for the close", "test_reservations_return_when_positions_close",
        ("    reserve: uint256 = self._ceil_div(usdc_in * self.slots[safe][slot].slippage_bps, BPS)\n",
         "    reserve: uint256 = 0\n"),
    ),
    _bug(
        "total loss budget not looked at",
        "test_total_loss_budget_outlives_the_day_until_the_safe_signs_again", (_TOTAL, "    return True\n"),
    ),
    _bug(
        "partial close leaves the whole cost", "test_partial_closes_account_for_everything_once",
        ("    terms.cost -= part.cost\n", ""),
        ("    self.holdings[safe][position.token].cost -= part.cost\n", ""),
    ),
    _bug("fee silently skipped", "test_winner_pays_exactly_its_share", (_PAY_FEE, "")),
    _bug(
        "no lock against re-entry", "test_reentry_during_a_close_is_repelled",
        ("@external\n@nonreentrant\ndef open_position", "@external\ndef open_position"),
        ("@external\n@nonreentrant\ndef close_position", "@external\ndef close_position"),
    ),
    _bug(
        "the Safe acts by DELEGATECALL", "test_the_safe_is_moved_by_call_only",
        ("execTransactionFromModuleReturnData(to, 0, data, 0)", "execTransactionFromModuleReturnData(to, 0, data, 1)"),
    ),
    _bug(
        "swap pays out to the caller", "test_receipts_go_only_to_the_safe",
        ("sell, buy, pool_fee, safe, deadline", "sell, buy, pool_fee, msg.sender, deadline"),
        ("    received: uint256 = staticcall IERC20(buy).balanceOf(safe) - buy_before\n",
         "    received: uint256 = least + buy_before * 0\n"),
    ),
    _bug(
        "cooldown not started", "test_cooldown_between_opens",
        ("    self.last_open[safe] = block.timestamp\n", ""),
    ),
    _bug(
        "owner's close needs the feed", "test_owners_can_close_without_executor_and_feed",
        ("    least: uint256 = min_usdc_out\n", "    least: uint256 = max(min_usdc_out, self._price(rule) * 0)\n"),
    ),
    _bug(
        "share above 20 % can be signed", "test_policy_bounds_are_enforced",
        ('    assert policy.profit_share_bps <= MAX_SHARE_BPS, "POLICY_SHARE"\n', ""),
    ),
    _bug(
        "rolling day of 18 to 24 hours", "test_loss_budget_has_no_double_burst_at_a_boundary",
        ("BUCKETS: constant(uint256) = 5", "BUCKETS: constant(uint256) = 4"),
    ),
    _bug(
        "cost of a part rounded down", "test_rounding_of_dust_closes_is_never_a_profit",
        ("cost=self._ceil_div(terms.cost * sold, position.quantity)", "cost=terms.cost * sold // position.quantity"),
    ),
    _bug(
        "shared profit is kept to set against later losses",
        "test_profit_is_shared_once_and_a_later_loss_is_carried",
        ("self.unshared[safe] = pending - base", "self.unshared[safe] = pending"),
    ),
    _bug(
        "loss of the open counted again at close", "test_realised_losses_stop_new_positions",
        ("known: uint256 = received + part.eroded", "known: uint256 = received"),
    ),
    _bug(
        "signing empties the rolling day", "test_a_new_policy_does_not_empty_the_rolling_day",
        (_KEEP, _KEEP + "    self.loss_window[msg.sender] = 0\n"),
    ),
    _bug(
        "no grace after the sequencer's return", "test_sequencer_down_and_its_grace_period_stop_trading",
        ("block.timestamp < started + SEQUENCER_GRACE", "block.timestamp < started"),
    ),
    _bug(
        "executor's least amount ignored", "test_min_out_holds_above_the_oracle_floor",
        ("max(min_out, least)", "least"),
    ),
    _bug(
        "owner's close charged to the budget", "test_owners_can_close_without_executor_and_feed",
        ("    if not by_owner:\n        charged = self._charge_close",
         "    if True:\n        charged = self._charge_close"),
    ),
    _bug(
        "close event without the share", "test_events_alone_rebuild_positions_fees_and_shares",
        ("share=share,\n", "share=0,\n"),
    ),
    _bug(
        "loosening takes effect at once", "test_each_limit_tightens_at_once_and_loosens_after_the_delay",
        ("    if delay == 0 or not", "    if True or not"),
    ),
    _bug(
        "tightening waits like a loosening", "test_stricter_limits_of_a_pending_policy_hold_at_once",
        ("        self._tighten(msg.sender, slot, policy)\n", "        pass\n"),
    ),
    _bug(
        "a stricter policy waits too", "test_each_limit_tightens_at_once_and_loosens_after_the_delay",
        ("    if delay == 0 or not self._loosens(msg.sender, slot, policy, tokens):\n", "    if delay == 0:\n"),
    ),
    _bug(
        "the pending policy names its own delay", "test_a_shorter_delay_waits_the_longer_one",
        ("    delay: uint256 = self.slots[msg.sender][slot].loosen_delay\n    if",
         "    delay: uint256 = policy.loosen_delay\n    if"),
    ),
    _bug(
        "a pending policy is never in force", "test_a_pending_policy_is_in_force_from_its_time_on_without_another_call",
        ("    if packed < 2 or packed >> 1 > block.timestamp:\n", "    if True:\n"),
    ),
    _bug(
        "trading under a pending policy", "test_a_pending_policy_is_in_force_from_its_time_on_without_another_call",
        ("    if packed < 2 or packed >> 1 > block.timestamp:\n", "    if packed < 2:\n"),
    ),
    _bug(
        "a new key is in force at once", "test_keys_rotate_after_the_delay_and_the_old_key_serves_until_then",
        ("        executor=current.executor,\n", "        executor=wanted.executor,\n"),
    ),
    _bug(
        "anyone may cancel a loosening", "test_safe_and_guardian_can_cancel_a_loosening_and_nobody_else",
        (_GUARDED + "    assert self._loosens_at", "    assert self._loosens_at"),
    ),
    _bug(
        "revoke leaves the pending policy", "test_revoke_drops_a_pending_policy_and_the_delay_outlasts_it",
        ("    self.schedule[msg.sender] = slot\n    log Revoked", "    log Revoked"),
    ),
    _bug(
        "revoking and signing anew goes round the delay",
        "test_revoke_drops_a_pending_policy_and_the_delay_outlasts_it",
        ("    self.slots[msg.sender][slot].loosen_delay = delay\n", ""),
    ),
    _bug(
        "signing renews the total loss budget at once", "test_a_new_total_loss_budget_waits_too",
        ("    if self.slot_charged[safe][slot] > 0:\n        return True\n", ""),
    ),
    _bug(
        "another feed is in force at once", "test_another_token_pool_or_feed_waits_and_a_removed_token_goes_at_once",
        ("not rule.listed or rule.feed != wanted.feed or", "not rule.listed or"),
    ),
    _bug(
        "a token left out can be bought until the delay is over",
        "test_another_token_pool_or_feed_waits_and_a_removed_token_goes_at_once",
        ("            self.slot_rules[safe][slot][token].listed = False\n            continue\n", "            pass\n"),
    ),
)  # fmt: skip


def mutated(mutant: Mutant) -> str:
    """The source with the bug in it; each replaced text must occur exactly once."""
    source = (HERE / "TradingModule.vy").read_text()
    for old, new in mutant.changes:
        if source.count(old) != 1:
            raise ValueError(f"{mutant.bug}: {source.count(old)} places for {old.strip()!r}")
        source = source.replace(old, new)
    return source


def runtime_code(lab: Lab, source: str) -> str:
    """Deploy a variant with the module's own constructor arguments; the code that then stands on chain."""
    lab.fresh()
    creation = bytes.fromhex(compile_source(source, "TradingModule")["bytecode"][2:])
    world = lab.world
    args = encode(["address"] * 3, [world.usdc, world.router, world.sequencer_feed])
    address = transact(lab.rpc, world.accounts["deployer"], None, creation + args)["contractAddress"]
    code: str = lab.rpc("eth_getCode", address, "latest")
    return code


def property_tests() -> Iterator[tuple[str, Callable[[Lab], None]]]:
    """Every property test as a function of the lab alone; parametrized ones once per set of values."""
    for name, function in inspect.getmembers(test_properties, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
        if not marks:
            yield name, function
        for values in marks[0].args[1] if marks else ():
            yield name, _bound(function, dict(zip(marks[0].args[0], values, strict=True)))


def _bound(function: Callable[..., None], values: dict[str, Any]) -> Callable[[Lab], None]:
    return lambda lab: function(lab, **values)


def judge(lab: Lab, bug: str, source: str, hint: str = "") -> Verdict:
    """Run the property tests against `source` until one fails."""
    started = time.monotonic()
    code = runtime_code(lab, source)
    tests = sorted(property_tests(), key=lambda test: test[0] != hint)
    for number, (name, function) in enumerate(tests, 1):
        lab.fresh()
        lab.rpc("anvil_setCode", lab.module, code)
        try:
            function(lab)
        except BaseException as error:  # pytest's own failures are no Exceptions
            if isinstance(error, KeyboardInterrupt):
                raise
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            return Verdict(bug, name, why[:60], number, time.monotonic() - started)
    return Verdict(bug, "", "", len(tests), time.monotonic() - started)


def table(verdicts: list[Verdict]) -> str:
    """Planted bug, finder, how it showed; then the count."""
    rows = [f"{v.bug:<46} {v.found_by or 'NOT FOUND':<72} {v.why}" for v in verdicts]
    found = sum(bool(v.found_by) for v in verdicts)
    return "\n".join([*rows, f"planted {len(verdicts)}, found {found}"])


def main() -> int:
    with start_anvil() as node:
        lab = Lab(build_world(node.url))
        sound = judge(lab, "none (control)", (HERE / "TradingModule.vy").read_text())
        verdicts = [judge(lab, mutant.bug, mutated(mutant), mutant.hint) for mutant in MUTANTS]
    print(table(verdicts))
    print(f"control: {sound.tests_run} tests on the sound module, failed: {sound.found_by or 'none'}")
    print(f"seconds: {sound.seconds + sum(v.seconds for v in verdicts):.0f}")
    return int(bool(sound.found_by) or not all(v.found_by for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
