"""Planted bugs: PerpModule with one fault each, run against its tests, which must find it.

    python -m tests.chain.perps.mutants        prints the table: planted bug -> the test that found it

A mutant is compiled, deployed, and its code put where the sound module stands, so the tests run unchanged.
"""

import argparse
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from eth_abi.abi import encode

from maxxit.ops.devchain.anvil import start_anvil
from maxxit.ops.devchain.world import build_world, transact
from tests.chain.mutants import Mutant, Verdict, table
from tests.chain.perps import test_callbacks, test_policy, test_reentry, test_trading
from tests.chain.perps.lab import MODULE_ARGS, PerpLab, module_args
from trading.venues.safe.contract.build import PERPS, compile_source

MODULES = (test_trading, test_callbacks, test_policy, test_reentry)


def _bug(bug: str, hint: str, *changes: tuple[str, str]) -> Mutant:
    return Mutant(bug, hint, changes)


_RESERVE = "    reserved: uint256 = self.reserved[safe] + cost\n"
_BASE = "    base: int256 = max(0, pending - convert(self.reserved[safe], int256))\n"
_CLOSER = "by_owner or msg.sender == self.slots[safe][slot].executor, NOT_EXECUTOR"
_LOSS = "    loss: uint256 = self._at_risk(terms)\n    terms.ended = True\n"
_WINDOW = "    self.loss_window[safe] = self._added(self.loss_window[safe], loss)\n"
_LEFT = (
    "    for key: bytes32 in [before.increase_key, before.stop_key, before.target_key, before.close_key]:\n"
)
_CREDIT = "    credited: uint256 = min(amount, terms.cost + terms.notional - terms.returned)\n"
_UNPAID = "    if not self._try_pay(safe, trade.profit_receiver, share):\n"
_PENDING = (
    "    packed: uint256 = self.schedule[safe]\n    if packed > 1 and packed >> 1 <= block.timestamp:\n"
)

# These run in every test run; the rest is marked slow.
CORE = (
    "trade id not consumed",
    "collateral not reserved",
    "callbacks of anyone are believed",
    "settle credits the cost",
    "loosening takes effect at once",
)

MUTANTS: tuple[Mutant, ...] = (
    _bug(
        "trade id not consumed", "test_trade_id_is_consumed_once",
        ("    self._require(self.trades[safe][trade_id].market == empty(address), TRADE_ID_USED)\n", ""),
    ),
    _bug(
        "collateral not reserved", "test_collateral_and_fee_are_reserved_in_both_budgets",
        (_RESERVE, "    reserved: uint256 = self.reserved[safe] + cost - collateral\n"),
    ),
    _bug(
        "fee not reserved", "test_collateral_and_fee_are_reserved_in_both_budgets",
        ("    cost: uint256 = collateral + policy.trade_fee\n", "    cost: uint256 = collateral\n"),
    ),
    _bug(
        "total loss budget not looked at", "test_a_call_within_the_limit_goes_and_one_beyond_does_not",
        ("and self.slot_charged[safe][slot] + reserved <= policy.total_loss_budget", "and True"),
    ),
    _bug(
        "losses of the day not looked at", "test_a_call_within_the_limit_goes_and_one_beyond_does_not",
        ("self._day(self.loss_window[safe]) + reserved <= policy.loss_budget", "reserved <= policy.loss_budget"),
    ),
    _bug(
        "callbacks of anyone are believed", "test_only_controllers_are_believed",
        ("    self._require(staticcall RoleStore(ROLE_STORE).hasRole(msg.sender, CONTROLLER), NOT_CONTROLLER)\n", ""),
    ),
    _bug(
        "the executor's callbacks are believed", "test_only_controllers_are_believed",
        ("staticcall RoleStore(ROLE_STORE).hasRole(msg.sender, CONTROLLER), NOT_CONTROLLER",
         "staticcall RoleStore(ROLE_STORE).hasRole(msg.sender, CONTROLLER) or not msg.sender.is_contract, "
         "NOT_CONTROLLER"),
    ),
    _bug(
        "settle credits the cost", "test_owners_leave_by_gmx_alone",
        ("    self._end(safe, trade_id)\n\n\n# ------------------------------------------------------------------ GMX",
         "    self._credit(safe, trade_id, max_value(uint256))\n    self._end(safe, trade_id)\n\n\n"
         "# ------------------------------------------------------------------ GMX"),
    ),
    _bug(
        "settle does not look at GMX's position", "test_without_a_callback_the_whole_cost_is_charged_and_no_share_paid",
        ("    self._require(not self._holds(self._position_key(safe, trade.market, is_long)), POSITION_EXISTS)\n"
         "    self._end", "    self._end"),
    ),
    _bug(
        "settle does not wait for the increase", "test_settle_waits_for_a_pending_increase",
        ("    self._require(not self._pending(trade.increase_key), ORDER_PENDING)\n", ""),
    ),
    _bug(
        "gains refill the budget", "test_gains_never_refill_the_budget",
        (_WINDOW, _WINDOW + "    self.loss_window[safe] -= min(self._day(self.loss_window[safe]), "
                            "terms.returned - min(terms.returned, terms.cost))\n"),
        ("    reserved: uint256 = self.reserved[safe] + cost\n",
         "    gains: uint256 = convert(max(0, self.unshared[safe]), uint256)\n"
         "    reserved: uint256 = self.reserved[safe] + cost - min(cost, gains)\n"),
        (_BASE, "    base: int256 = 0\n"),
    ),
    _bug(
        "losses are not charged", "test_what_a_close_does_not_bring_back_is_charged",
        (_WINDOW, ""), ("    self.slot_charged[safe][slot] += loss\n", ""),
    ),
    _bug(
        "losses count for the day alone", "test_a_call_within_the_limit_goes_and_one_beyond_does_not",
        ("    self.slot_charged[safe][slot] += loss\n", ""),
    ),
    _bug(
        "reservation stays after the end", "test_a_cancelled_increase_frees_its_reservation_and_costs_the_fee",
        ("    self.reserved[safe] -= loss\n", ""),
    ),
    _bug(
        "what returns does not free its reservation", "test_partial_closes_free_what_returned_and_end_the_trade_once",
        ("    self.reserved[safe] -= before - self._at_risk(terms)\n", ""),
    ),
    _bug(
        "what returns is freed twice", "test_partial_closes_free_what_returned_and_end_the_trade_once",
        ("    self.reserved[safe] -= before - self._at_risk(terms)\n",
         "    self.reserved[safe] -= min(self.reserved[safe], 2 * (before - self._at_risk(terms)))\n"),
        ("    self.reserved[safe] -= loss\n", "    self.reserved[safe] -= min(self.reserved[safe], loss)\n"),
    ),
    _bug(
        "a partial close ends the trade", "test_partial_closes_free_what_returned_and_end_the_trade_once",
        ("        if not self._holds(self._position_key(safe, trade.market, is_long)):\n            self._end",
         "        if True:\n            self._end"),
    ),
    _bug(
        "a cancelled stop counts as returned collateral", "test_only_a_cancelled_increase_gives_its_collateral_back",
        ("    ends: bool = key == self.trades[safe][trade_id].increase_key and self._is_open(safe, trade_id)\n",
         "    ends: bool = self._is_open(safe, trade_id)\n"),
    ),
    _bug(
        "an ended trade is credited again", "test_a_trade_that_has_ended_is_credited_nothing_more",
        ("    if key != trade.increase_key and self._is_open(safe, trade_id):\n        result",
         "    if key != trade.increase_key:\n        result"),
    ),
    _bug("a controller may report any sum", "test_no_trade_returns_more_than_its_cost_and_notional",
         (_CREDIT, "    credited: uint256 = amount\n")),
    _bug(
        "other tokens count as USDC", "test_outputs_in_usdc_count_and_others_do_not",
        ("    if self._address_item(result, token) != USDC:\n        return 0\n", ""),
    ),
    _bug(
        "positions of another side are credited", "test_orders_and_positions_that_are_not_the_modules_are_ignored",
        ("    return trade_id if is_long == self._unpack(self.trades[safe][trade_id].terms).is_long else empty",
         "    return trade_id if True else empty"),
    ),
    _bug(
        "positions of another collateral are credited",
        "test_orders_and_positions_that_are_not_the_modules_are_ignored",
        (" or self._address_item(order, COLLATERAL_TOKEN) != USDC", ""),
    ),
    _bug(
        "share without carried losses", "test_losses_are_carried_forward",
        (_BASE, "    base: int256 = max(0, profit)\n"),
    ),
    _bug(
        "winners are shared while losers are open", "test_a_winner_pays_nothing_while_a_loser_can_still_lose",
        (_BASE, "    base: int256 = max(0, pending)\n"),
    ),
    _bug(
        "share of what returned, not of the profit", "test_a_winner_pays_exactly_its_share",
        ("    share: uint256 = convert(base, uint256) * terms", "    share: uint256 = terms.returned * terms"),
    ),
    _bug(
        "share receiver of today, not of the open", "test_terms_are_those_of_the_open",
        ("self._try_pay(safe, trade.profit_receiver, share)",
         "self._try_pay(safe, self.slots[safe][slot].profit_receiver, share)"),
    ),
    _bug(
        "executor receives the share", "test_a_winner_pays_exactly_its_share",
        ("self._try_pay(safe, trade.profit_receiver, share)",
         "self._try_pay(safe, self.slots[safe][slot].executor, share)"),
    ),
    _bug(
        "a share that is not paid reverts the callback", "test_a_share_that_cannot_be_paid_undoes_nothing",
        ("    success: bool = raw_call(safe, call, revert_on_failure=False)\n",
         "    success: bool = True\n    raw_call(safe, call)\n"),
    ),
    _bug(
        "a share that is not paid counts as paid", "test_a_share_that_cannot_be_paid_undoes_nothing",
        ("        share = 0\n        self.unshared[safe] = pending\n", "        share = 0\n"),
    ),
    _bug(
        "leverage not bounded", "test_a_call_within_the_limit_goes_and_one_beyond_does_not",
        ("    self._require(notional * BPS <= collateral * policy.max_leverage_bps, LEVERAGE)\n", ""),
    ),
    _bug(
        "acceptable price of a short open not held", "test_acceptable_price_of_an_open_is_held_to_the_feed",
        ("self._accept(safe, slot, market, is_long, acceptable_price)",
         "self._accept(safe, slot, market, True, acceptable_price)"),
    ),
    _bug(
        "acceptable price of a close not held", "test_acceptable_price_of_a_close_is_held_to_the_feed",
        ("        self._accept(safe, slot, trade.market, not terms.is_long, acceptable_price)\n", ""),
    ),
    _bug(
        "stale feed accepted", "test_a_feed_that_cannot_be_used_stops_the_executor",
        ("block.timestamp - updated <= rule.max_age", "True"),
    ),
    _bug(
        "sides of the rule not looked at", "test_each_side_and_market_must_be_listed",
        ("    self._require(rule.allow_long if is_long else rule.allow_short, SIDE)\n", ""),
    ),
    _bug(
        "money goes to the executor", "test_orders_are_fixed_but_for_what_the_executor_may_choose",
        ("receiver=safe, cancellation_receiver=safe,", "receiver=msg.sender, cancellation_receiver=safe,"),
    ),
    _bug(
        "cancelled money goes to the executor", "test_orders_are_fixed_but_for_what_the_executor_may_choose",
        ("receiver=safe, cancellation_receiver=safe,", "receiver=safe, cancellation_receiver=msg.sender,"),
    ),
    _bug(
        "stop held to a price", "test_stop_and_target_of_a_short_are_accepted_at_any_price",
        ("any_price: uint256 = 0 if is_long else max_value(uint256)\n", "any_price: uint256 = acceptable_price\n"),
    ),
    _bug(
        "liquidations are not told", "test_liquidation_is_told_by_the_saved_callback",
        ("abi_encode(market, self, method_id=method_id(\"setSavedCallbackContract(address,address)\"))",
         "abi_encode(market, empty(address), method_id=method_id(\"setSavedCallbackContract(address,address)\"))"),
    ),
    _bug(
        "owner's position does not block the market", "test_the_owners_own_position_blocks_its_market",
        ("        self._require(not self._holds(self._position_key(safe, market, is_long)), POSITION_EXISTS)\n",
         "        pass\n"),
    ),
    _bug(
        "orders left do not block the market",
        "test_stops_left_of_a_cancelled_increase_block_the_market_until_anyone_cancels_them",
        (_LEFT, "    for key: bytes32 in [before.increase_key, empty(bytes32)]:\n"),
    ),
    _bug(
        "anyone cancels stops of an open trade", "test_stops_of_an_open_trade_are_cancelled_by_executor_and_safe_only",
        ("    if not allowed and order_key != trade.stop_key and order_key != trade.target_key:\n",
         "    if not allowed:\n"),
    ),
    _bug(
        "anyone cancels market orders at once", "test_a_market_order_can_be_cancelled_by_anyone_after_300_seconds",
        ("        allowed = block.timestamp > terms.ordered_at + REQUEST_SECONDS\n", "        allowed = True\n"),
    ),
    _bug(
        "guardian may close", "test_only_the_executor_and_the_safe_close",
        (_CLOSER, "by_owner or msg.sender in [self.slots[safe][slot].executor, self.slots[safe][slot].guardian], "
                  "NOT_EXECUTOR"),
    ),
    _bug(
        "a halt does not hold the executor", "test_owners_leave_without_executor_feed_and_budget",
        ("    self._require(by_owner or self.stop_level[safe] < HALTED, STOPPED)\n", ""),
    ),
    _bug(
        "owner's close needs the feed", "test_owners_leave_without_executor_feed_and_budget",
        ("    if not by_owner:\n        self._require(execution_fee",
         "    if True:\n        self._require(execution_fee"),
    ),
    _bug(
        "partial close leaves its collateral", "test_partial_closes_free_what_returned_and_end_the_trade_once",
        ("    if size < held:\n", "    if size > held:\n"),
    ),
    _bug(
        "the Safe acts by DELEGATECALL", "test_open_spends_exactly_collateral_and_fee_and_leaves_no_allowance",
        ("execTransactionFromModuleReturnData(to, 0, data, 0)", "execTransactionFromModuleReturnData(to, 0, data, 1)"),
    ),
    _bug(
        "budget restarts each quarter day", "test_no_burst_at_a_boundary",
        ("    if elapsed < BUCKETS:\n", "    if elapsed < 1:\n"),
    ),
    _bug(
        "no lock against re-entry", "test_a_reentrant_token_is_repelled",
        ("@external\n@payable\n@nonreentrant\ndef open_position", "@external\n@payable\ndef open_position"),
        ("@external\n@payable\n@nonreentrant\ndef close_position", "@external\n@payable\ndef close_position"),
        ("@external\n@nonreentrant\ndef stop(", "@external\ndef stop("),
    ),
    _bug(
        "loosening takes effect at once", "test_each_limit_tightens_at_once_and_loosens_after_the_delay",
        ("    if current.loosen_delay == 0 or not", "    if True or not"),
    ),
    _bug(
        "another feed is in force at once", "test_another_market_feed_or_side_waits_and_what_is_removed_goes_at_once",
        ("rule.feed != wanted.feed or ", ""),
    ),
    _bug(
        "another side is in force at once", "test_another_market_feed_or_side_waits_and_what_is_removed_goes_at_once",
        ("(wanted.allow_long and not rule.allow_long) or (wanted.allow_short and not rule.allow_short)", "False"),
    ),
    _bug(
        "a pending policy is never in force", "test_each_limit_tightens_at_once_and_loosens_after_the_delay",
        (_PENDING, "    packed: uint256 = self.schedule[safe]\n    if False:\n"),
    ),
    _bug(
        "anyone may stop", "test_strangers_cannot_stop",
        ("    self._only_guardian(safe, self._settle_slot(safe))\n", ""),
    ),
    _bug(
        "share above 20 % can be signed", "test_policy_bounds_are_enforced",
        ("    self._require(policy.profit_share_bps <= MAX_SHARE_BPS, POLICY_SHARE)\n", ""),
    ),
    _bug(
        "anyone may take a trade from its Safe", "test_the_safe_takes_a_trade_as_its_own",
        ("    self._require(self._is_open(msg.sender, trade_id), NO_TRADE)\n", ""),
    ),
)  # fmt: skip


def mutated(mutant: Mutant) -> str:
    """The source with the bug in it; each replaced text must occur exactly once."""
    source = (PERPS / "PerpModule.vy").read_text()
    for old, new in mutant.changes:
        if source.count(old) != 1:
            raise ValueError(f"{mutant.bug}: {source.count(old)} places for {old.strip()!r}")
        source = source.replace(old, new)
    return source


def runtime_code(lab: PerpLab, source: str) -> str:
    """Deploy a variant with the module's own constructor arguments; the code that then stands on chain."""
    lab.planted = None
    lab.fresh()
    creation = bytes.fromhex(compile_source(source, "PerpModule")["bytecode"][2:])
    args = encode(MODULE_ARGS, module_args(lab.world))
    address = transact(lab.rpc, lab.world.accounts["deployer"], None, creation + args)["contractAddress"]
    code: str = lab.rpc("eth_getCode", address, "latest")
    return code


def property_tests() -> Iterator[tuple[str, Callable[[PerpLab], None]]]:
    """Every test as a function of the lab alone; parametrized ones once per set of values."""
    for module in MODULES:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_") or "lab" not in inspect.signature(function).parameters:
                continue
            marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
            if not marks:
                yield name, function
                continue
            names, rows = marks[0].args[0], marks[0].args[1]
            for row in rows:
                values = {names: row} if isinstance(names, str) else dict(zip(names, row, strict=True))
                yield name, _bound(function, values)


def _bound(function: Callable[..., None], values: dict[str, Any]) -> Callable[[PerpLab], None]:
    return lambda lab: function(lab, **values)


def judge(lab: PerpLab, bug: str, source: str, hint: str = "") -> Verdict:
    """Run the tests against `source` until one fails."""
    started = time.monotonic()
    code = runtime_code(lab, source)
    tests = sorted(property_tests(), key=lambda test: test[0] != hint)
    if hint and tests[0][0] != hint:
        raise ValueError(f"{bug}: there is no test {hint}")
    lab.planted = code
    for number, (name, function) in enumerate(tests, 1):
        lab.fresh()
        try:
            function(lab)
        except BaseException as error:  # pytest's own failures are no Exceptions
            if isinstance(error, KeyboardInterrupt):
                raise
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            return Verdict(bug, name, why[:60], number, time.monotonic() - started)
    return Verdict(bug, "", "", len(tests), time.monotonic() - started)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Planted bugs of PerpModule, and the tests that find them.")
    parser.add_argument("--part", default="1/1", help="2/4: the second of four parts; no control")
    part, parts = map(int, parser.parse_args(argv).part.split("/"))
    verdicts: list[Verdict] = []
    with start_anvil() as node:
        lab = PerpLab(build_world(node.url))
        for mutant in MUTANTS[part - 1 :: parts]:
            verdicts.append(judge(lab, mutant.bug, mutated(mutant), mutant.hint))
            print(f"{len(verdicts)}: {mutant.bug}", file=sys.stderr, flush=True)
        print(table(verdicts))
        if parts == 1:
            sound = judge(lab, "none (control)", (PERPS / "PerpModule.vy").read_text())
            print(f"control: {sound.tests_run} tests on the sound module, failed: {sound.found_by or 'none'}")
            return int(bool(sound.found_by) or not all(verdict.found_by for verdict in verdicts))
    return int(not all(verdict.found_by for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
