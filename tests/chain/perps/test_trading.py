"""Opening, closing, cancelling and the end of trades: each line of the module's design is a test here."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from maxxit.evm.codec import ZERO_ADDRESS, encode_call
from maxxit.ops.devchain.world import Builder, Reverted, transact
from tests.chain.gmx import router
from tests.chain.perps.lab import (
    DAY,
    FEE,
    HIGHEST,
    MODULE_ARGS,
    USD,
    USDC,
    PerpLab,
    module_args,
    reverts,
    trade,
)  # fmt: skip
from trading.venues.gmx import calls
from trading.venues.gmx.contract import module as p

pytestmark = pytest.mark.chain

COLLATERAL = 100 * USDC
TRADE_FEE = 200_000
COST = COLLATERAL + TRADE_FEE
NO_KEY = bytes(32)


def settled(logs: list[p.Log]) -> p.Log:
    """The TradeSettled among events."""
    (log,) = (log for log in logs if log.name == "TradeSettled")
    return log


# ------------------------------------------------------------------ what an open orders


def test_orders_are_fixed_but_for_what_the_executor_may_choose(lab: PerpLab) -> None:
    log = lab.request(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    for name, kind, size, amount, trigger, acceptable in (
        ("order_key", calls.OrderType.MARKET_INCREASE, 500 * USD, COLLATERAL, 0, lab.units("2512.5")),
        ("stop_key", calls.OrderType.STOP_LOSS_DECREASE, 500 * USD, 0, lab.units("2400"), 0),
        ("target_key", calls.OrderType.LIMIT_DECREASE, 500 * USD, 0, lab.units("2700"), 0),
    ):
        addresses, numbers, flags, data = lab.keeper.order(log.args[name])
        account, receiver, cancellation, callback, ui_fee, market, token, path = addresses
        assert {account, receiver, cancellation} == {lab.safe}
        assert (callback, ui_fee, market, token, list(path)) == (
            lab.module, ZERO_ADDRESS, lab.market(), lab.world.usdc, [],
        )  # fmt: skip
        assert (numbers[0], numbers[1]) == (kind, router.TO_COLLATERAL)
        assert numbers[2:8] == (size, amount, trigger, acceptable, FEE, p.CALLBACK_GAS)
        assert (numbers[8], numbers[10]) == (0, 0), "no least output, valid at once"
        assert (flags[0], flags[1], flags[3]) == (True, False, kind != calls.OrderType.MARKET_INCREASE)
        assert list(data) == [trade("a")]


def test_stop_and_target_of_a_short_are_accepted_at_any_price(lab: PerpLab) -> None:
    log = lab.request(short=True, stop_price=lab.units("2600"), target_price=lab.units("2300"))
    for name in ("stop_key", "target_key"):
        assert lab.keeper.order(log.args[name])[1][5] == HIGHEST


def test_open_spends_exactly_collateral_and_fee_and_leaves_no_allowance(lab: PerpLab) -> None:
    before, ether = lab.usdc(), lab.ether(lab.safe)
    log = lab.request(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    assert before - lab.usdc() == COST == log.args["reserved"]
    assert lab.usdc("fee_receiver") == TRADE_FEE
    for spender in (lab.gmx.router, lab.gmx.exchange_router, lab.gmx.order_vault, lab.module):
        assert lab.number("allowance(address,address)", lab.safe, spender, to=lab.world.usdc) == 0
    assert lab.ether(lab.safe) == ether, "the Safe's ETH pays for nothing"
    for token in ("USDC", "WETH"):
        assert lab.world.balance(token, lab.module) == 0
    assert lab.ether(lab.module) == 0


def test_execution_fees_are_the_executors_and_refunds_the_safes(lab: PerpLab) -> None:
    before = lab.ether(lab.safe)
    log = lab.open()
    assert lab.ether(lab.safe) > before
    lab.close()
    assert lab.ether(lab.module) == 0 == lab.world.balance("WETH", lab.module)
    assert log.args["execution_fee"] == FEE


def test_the_safe_is_moved_by_call_only_and_without_value(lab: PerpLab) -> None:
    opening = lab.opening(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    data = p.open_data(lab.safe, opening, lab.world.now() + 600)
    receipt = transact(lab.rpc, lab.world.accounts["executor"], lab.module, data, opening.value)
    trace = lab.rpc("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
    seen = {(call["type"], int(call.get("value") or "0x0", 16)) for call in calls_of(trace, lab.safe.lower())}
    assert seen == {("CALL", 0), ("STATICCALL", 0)} or seen == {("CALL", 0)}
    targets = {call["to"] for call in calls_of(trace, lab.safe.lower())}
    assert targets <= {address.lower() for address in (lab.world.usdc, lab.gmx.exchange_router)}


def calls_of(trace: dict[str, Any], sender: str) -> list[dict[str, Any]]:
    """Calls that an account made, the delegate call to a proxy's own singleton aside."""
    found = []
    for call in trace.get("calls", []):
        if call["from"] == sender and call["type"] != "DELEGATECALL":
            found.append(call)
        found += calls_of(call, sender)
    return found


def test_a_donation_to_the_vault_changes_nothing_for_the_books(lab: PerpLab) -> None:
    lab.world.mint("USDC", lab.gmx.order_vault, 7 * USDC)
    key = lab.request().args["order_key"]
    assert lab.keeper.order(key)[1][3] == COLLATERAL + 7 * USDC
    lab.advance(301)
    before = lab.usdc()
    over = settled(lab.cancel(key))
    assert lab.usdc() - before == COLLATERAL + 7 * USDC
    assert (over.args["returned"], over.args["loss"], over.args["share"]) == (COLLATERAL, TRADE_FEE, 0)


# ------------------------------------------------------------------ trade ids


def test_trade_id_is_consumed_once(lab: PerpLab) -> None:
    lab.open()
    for symbol in ("WETH", "WBTC"):
        with reverts("TRADE_ID_USED"):
            lab.request("a", symbol)
    lab.close()
    lab.advance(2)
    with reverts("TRADE_ID_USED"):
        lab.request()
    assert lab.number("trade_id_used(address,bytes32)", lab.safe, trade("a")) == 1


def test_failed_open_leaves_the_trade_id_free(lab: PerpLab) -> None:
    with reverts("LEVERAGE"):
        lab.request(collateral=50 * USDC, size_usd=501 * USD)
    lab.request()


def test_trade_ids_are_per_safe(lab: PerpLab) -> None:
    other = lab.another_safe()
    lab.request()
    assert lab.request(safe=other).args["safe"] == other


def test_an_empty_trade_id_is_refused(lab: PerpLab) -> None:
    with reverts("TRADE_ID"):
        lab.request(trade=bytes(32))


# ------------------------------------------------------------------ limits

Action = Callable[[PerpLab], Any]


def opens(name: str = "x", **how: Any) -> Action:
    how = {"collateral": 10 * USDC, **how}
    return lambda lab: lab.request(name, **how)


def after(seconds: int, action: Action, *, fresh: bool = True) -> Action:
    def act(lab: PerpLab) -> None:
        lab.advance(seconds, fresh=fresh)
        action(lab)

    return act


def both(first: Action, second: Action) -> Action:
    def act(lab: PerpLab) -> None:
        first(lab)
        second(lab)

    return act


def opened(*collaterals: int, **how: Any) -> Action:
    """Orders with so many USDC, two seconds apart, each cancelled when it may be."""

    def act(lab: PerpLab) -> None:
        for number, usdc in enumerate(collaterals):
            key = lab.request(f"{usdc}/{number}", collateral=usdc * USDC, **how).args["order_key"]
            lab.execute(key, "3000")  # beyond the acceptable price: cancelled
            lab.advance(2)

    return act


def lost(lab: PerpLab) -> None:
    """A trade that loses all of its 100 USDC."""
    lab.open("lost", leverage=10)
    lab.liquidate("2250")
    lab.advance(2)


def lost_days_ago(lab: PerpLab) -> None:
    lost(lab)
    lab.advance(2 * DAY)


def loosened(lab: PerpLab) -> None:
    lab.sign(loosen_delay=DAY, max_collateral=200 * USDC)


def nothing(lab: PerpLab) -> None:
    """No preparation."""


def sized(dollars: int, **how: Any) -> Action:
    return lambda lab: lab.request("x", size_usd=dollars * USD, **how)


def priced(price: str, **how: Any) -> Action:
    return lambda lab: lab.request("x", acceptable_price=lab.units(price), **how)


def stops(role: str) -> Action:
    return lambda lab: lab.send(role, p.call_data("stop", lab.safe, p.HALTED))


# The limit -> policy, what happens before, a call within the limit, one beyond it, and the reason.
CASES: dict[str, tuple[dict[str, Any], Action, Action, Action, str]] = {
    "executor": ({}, nothing, opens(), opens(by="rogue"), "NOT_EXECUTOR"),
    "guardian": ({}, nothing, stops("guardian"), stops("rogue"), "NOT_GUARDIAN"),
    "min_collateral": (
        {"min_collateral": 20 * USDC}, nothing, opens(collateral=20 * USDC), opens(collateral=20 * USDC - 1),
        "MIN_COLLATERAL",
    ),
    "max_collateral": (
        {"max_collateral": 90 * USDC}, nothing, opens(collateral=90 * USDC), opens(collateral=90 * USDC + 1),
        "MAX_COLLATERAL",
    ),
    "max_leverage_bps": ({"max_leverage_bps": 55_000}, nothing, sized(550), sized(551), "LEVERAGE"),
    "max_notional": ({"max_notional": 400 * USDC}, nothing, sized(400), sized(401), "NOTIONAL"),
    "daily_collateral": (
        {"daily_collateral": 150 * USDC}, opened(100), opens(collateral=50 * USDC),
        opens(collateral=50 * USDC + 1), "DAILY_COLLATERAL",
    ),
    "daily_notional": (
        {"daily_notional": 1_000 * USDC}, opened(100), sized(500), sized(501), "DAILY_NOTIONAL",
    ),
    "trades_per_day": (
        {"trades_per_day": 2}, opened(10), opens(), both(opened(20), opens()), "TRADES_PER_DAY",
    ),
    "cooldown": ({"cooldown": 600}, opened(10), after(600, opens()), after(590, opens()), "COOLDOWN"),
    "slippage_bps": ({}, nothing, priced("2525"), priced("2525.01"), "ACCEPTABLE_PRICE"),
    "max_execution_fee": (
        {}, nothing, opens(execution_fee=FEE), opens(execution_fee=FEE + 1), "EXECUTION_FEE",
    ),
    "loss_budget": (
        {"loss_budget": 150 * USDC}, lost, opens(collateral=49 * USDC), opens(collateral=50 * USDC), "LOSS_BUDGET",
    ),
    "total_loss_budget": (
        {"loss_budget": 150 * USDC, "total_loss_budget": 150 * USDC}, lost_days_ago, opens(collateral=49 * USDC),
        opens(collateral=50 * USDC), "LOSS_BUDGET",
    ),
    "loosen_delay": (
        {"loosen_delay": DAY}, loosened, after(DAY, opens(collateral=150 * USDC)),
        after(DAY - 60, opens(collateral=150 * USDC)), "MAX_COLLATERAL",
    ),
}  # fmt: skip
TERMS = {"fee_receiver", "profit_receiver", "profit_share_bps", "trade_fee"}
"""What is paid, and to whom: no call can name another (`test_a_winner_pays_exactly_its_share`)."""


def test_every_field_of_the_policy_has_its_case() -> None:
    assert set(CASES) | TERMS == set(p.Policy.__dataclass_fields__)


@pytest.mark.parametrize("name", CASES)
def test_a_call_within_the_limit_goes_and_one_beyond_does_not(lab: PerpLab, name: str) -> None:
    policy, before, within, beyond, reason = CASES[name]
    for action, refused in ((within, ""), (beyond, reason)):
        lab.fresh()
        lab.sign(**policy)
        before(lab)
        if refused:
            with reverts(refused):
                action(lab)
        else:
            action(lab)


def test_each_side_and_market_must_be_listed(lab: PerpLab) -> None:
    weth, wbtc = lab.rules()
    lab.sign([replace(weth, allow_short=False), replace(wbtc, allow_long=False)])
    for symbol, short in (("WETH", True), ("WBTC", False)):
        with reverts("SIDE"):
            lab.request("x", symbol, short=short)
    lab.request("a", "WETH")
    lab.advance(2)
    lab.request("b", "WBTC", short=True)
    lab.fresh()
    lab.sign([weth])
    with reverts("MARKET_NOT_LISTED"):
        lab.request("x", "WBTC")


@pytest.mark.parametrize(
    ("short", "within", "beyond"), [(False, "2525", "2525.01"), (True, "2475", "2474.99")]
)
def test_acceptable_price_of_an_open_is_held_to_the_feed(
    lab: PerpLab, short: bool, within: str, beyond: str
) -> None:
    with reverts("ACCEPTABLE_PRICE"):
        priced(beyond, short=short)(lab)
    priced(within, short=short)(lab)


@pytest.mark.parametrize(
    ("short", "within", "beyond"), [(False, "2475", "2474.99"), (True, "2525", "2525.01")]
)
def test_acceptable_price_of_a_close_is_held_to_the_feed(
    lab: PerpLab, short: bool, within: str, beyond: str
) -> None:
    lab.open(short=short)
    with reverts("ACCEPTABLE_PRICE"):
        lab.request_close(acceptable=lab.units(beyond))
    lab.request_close(acceptable=lab.units(within))


@pytest.mark.parametrize(("short", "stop", "target"), [(False, "2500", "2500"), (True, "2500", "2500")])
def test_triggers_stand_on_their_side_of_the_price(lab: PerpLab, short: bool, stop: str, target: str) -> None:
    step = Decimal("0.01") if short else Decimal("-0.01")
    with reverts("TRIGGER_PRICE"):
        lab.request(short=short, stop_price=lab.units(stop))
    with reverts("TRIGGER_PRICE"):
        lab.request(short=short, target_price=lab.units(target))
    good_stop, good_target = lab.units(Decimal(stop) + step), lab.units(Decimal(target) - step)
    log = lab.request(short=short, stop_price=good_stop, target_price=good_target)
    assert NO_KEY not in (log.args["stop_key"], log.args["target_key"])


def test_value_is_the_execution_fee_of_each_order(lab: PerpLab) -> None:
    for value in (0, FEE, 3 * FEE):
        with reverts("EXECUTION_FEE"):
            lab.request(stop_price=lab.units("2400"), value=value)
    lab.request(stop_price=lab.units("2400"), value=2 * FEE)
    lab.fresh()
    lab.open()
    for value in (0, FEE - 1, 2 * FEE):
        with reverts("EXECUTION_FEE"):
            lab.request_close(value=value)
    with reverts("EXECUTION_FEE"):
        lab.request_close(fee=FEE + 1)


def test_deadline_is_the_senders(lab: PerpLab) -> None:
    with reverts("DEADLINE"):
        lab.request(deadline=-1)
    lab.open()
    with reverts("DEADLINE"):
        lab.request_close(deadline=-1)


def test_no_burst_at_a_boundary(lab: PerpLab) -> None:
    lab.sign(trades_per_day=2)
    lab.to_quarter_end(before=30)
    opened(10, 10)(lab)
    for seconds in (60, 6 * 3_600, 6 * 3_600, 6 * 3_600, 5 * 3_600 + 3_000):
        lab.advance(seconds)
        with reverts("TRADES_PER_DAY"):
            lab.request("late", collateral=10 * USDC)
    lab.advance(7 * 3_600)
    lab.request("late", collateral=10 * USDC)


# ------------------------------------------------------------------ price feed


def _feed(lab: PerpLab, answer: int, age: int = 0) -> None:
    then = lab.world.now() - age
    data = encode_call("set_round(int256,uint256,uint256)", answer, then, then)
    lab.send("rogue", data, lab.world.token("WETH").feed)


@pytest.mark.parametrize(
    ("answer", "age", "reason"),
    [
        (0, 0, "FEED_BAD"), (-1, 0, "FEED_BAD"), (2**128 + 1, 0, "FEED_BAD"), (2_500 * 10**8, 3_700, "FEED_STALE"),
        (2_500 * 10**8, -600, "FEED_STALE"),
    ],
)  # fmt: skip
def test_a_feed_that_cannot_be_used_stops_the_executor(
    lab: PerpLab, answer: int, age: int, reason: str
) -> None:
    lab.open("a")
    lab.advance(2)
    opening = lab.opening("b")
    _feed(lab, answer, age)
    with reverts(reason):
        lab.send("executor", p.open_data(lab.safe, opening, 2**40), value=FEE)
    close = p.close_data(
        lab.safe, trade("a"), acceptable_price=lab.units("2480"), execution_fee=FEE, deadline=2**40
    )
    with reverts(reason):
        lab.send("executor", close, value=FEE)
    lab.send(lab.safe, close, value=FEE)


def test_a_dead_feed_stops_its_market_only(lab: PerpLab) -> None:
    opening = lab.opening()
    lab.send("rogue", encode_call("kill()"), lab.world.token("WETH").feed)
    with reverts("FEED_BAD"):
        lab.send("executor", p.open_data(lab.safe, opening, 2**40), value=FEE)
    lab.request("b", "WBTC")


def test_sequencer_down_and_its_grace_period_stop_the_executor(lab: PerpLab) -> None:
    feed = lab.world.sequencer_feed
    lab.send("rogue", encode_call("set_answer(int256)", 1), feed)
    with reverts("SEQUENCER_DOWN"):
        lab.request()
    lab.send("rogue", encode_call("set_answer(int256)", 0), feed)
    lab.advance(3_500)
    with reverts("SEQUENCER_DOWN"):
        lab.request()
    lab.advance(200)
    lab.request()


# ------------------------------------------------------------------ the loss bound


def test_collateral_and_fee_are_reserved_in_both_budgets(lab: PerpLab) -> None:
    before = lab.headroom()
    lab.request()
    left = lab.headroom()
    assert lab.reserved() == COST
    assert (before.loss_left - left.loss_left, before.total_loss_left - left.total_loss_left) == (COST, COST)
    assert lab.charged() == 0, "nothing is lost yet"
    lab.advance(2)
    lab.request("b", "WBTC")
    assert lab.headroom().loss_left == 250 * USDC - 2 * COST


def test_a_cancelled_increase_frees_its_reservation_and_costs_the_fee(lab: PerpLab) -> None:
    before = lab.usdc()
    key = lab.request().args["order_key"]
    ended, over = lab.execute(key, "2600")  # above the acceptable price
    assert (ended.args["outcome"], ended.args["returned"]) == (p.CANCELLED, COLLATERAL)
    assert (over.args["loss"], over.args["cost"], over.args["share"]) == (TRADE_FEE, COST, 0)
    assert lab.usdc() == before - TRADE_FEE
    assert (lab.reserved(), lab.charged(), lab.unshared()) == (0, TRADE_FEE, -TRADE_FEE)


def test_what_a_close_does_not_bring_back_is_charged(lab: PerpLab) -> None:
    before = lab.usdc()
    lab.open()
    lab.feed("2400")
    over = settled(lab.close())
    lost = before - lab.usdc()
    assert lost == over.args["loss"] == over.args["cost"] - over.args["returned"] == lab.charged()
    assert 20 * USDC < lost < 25 * USDC
    assert lab.reserved() == 0
    assert lab.headroom().loss_left == 250 * USDC - lost


def test_gains_never_refill_the_budget(lab: PerpLab) -> None:
    lab.open()
    lab.feed("2600")
    won = settled(lab.close())
    assert won.args["profit"] > 0 == won.args["loss"]
    assert lab.headroom().loss_left == 250 * USDC


def test_partial_closes_free_what_returned_and_end_the_trade_once(lab: PerpLab) -> None:
    before = lab.usdc()
    lab.open()
    (half,) = lab.close(size_usd=250 * USD)
    assert half.name == "OrderEnded"
    returned = half.args["returned"]
    assert 48 * USDC < returned < 50 * USDC
    assert (lab.reserved(), lab.charged()) == (COST - returned, 0)
    assert lab.position_size() == 250 * USD
    assert lab.known().returned == returned
    ended, over = lab.close()
    assert over.args["returned"] == returned + ended.args["returned"]
    assert over.args["loss"] == COST - over.args["returned"] == before - lab.usdc()
    assert (lab.reserved(), lab.known().ended) == (0, True)


def test_a_stop_ends_the_trade_by_itself_and_its_sibling_is_cancelled(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    lab.feed("2350")  # a gap: far below the stop
    logs = lab.execute(log.args["stop_key"])
    assert [entry.name for entry in logs] == ["OrderEnded", "TradeSettled", "OrderEnded"]
    assert logs[2].args["order_key"] == log.args["target_key"]
    assert (logs[2].args["outcome"], logs[2].args["returned"]) == (p.CANCELLED, 0)
    assert settled(logs).args["loss"] == lab.charged() > 25 * USDC
    lab.advance(2)
    lab.open("b")


def test_a_target_ends_the_trade_with_its_share(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"), target_price=lab.units("2600"))
    lab.feed("2600")
    over = settled(lab.execute(log.args["target_key"]))
    assert over.args["share"] == over.args["profit"] // 5 == lab.usdc("profit_receiver") > 0


def test_liquidation_is_told_by_the_saved_callback(lab: PerpLab) -> None:
    log = lab.open(leverage=10, stop_price=lab.units("2400"))
    before = lab.usdc()
    logs = lab.liquidate("2260")
    over = settled(logs)
    assert lab.usdc() - before == over.args["returned"]
    assert over.args["loss"] == COST - over.args["returned"] == lab.charged()
    assert logs[0].args["order_key"] not in (log.args["order_key"], log.args["stop_key"])
    assert lab.reserved() == 0


def test_auto_deleveraging_returns_count_for_the_trade(lab: PerpLab) -> None:
    lab.open(leverage=10)
    lab.set_value(1, "MAX_PNL_FACTOR_FOR_ADL", lab.market(), True, types="ab")
    lab.feed("2600")
    receipt = lab.keeper.deleverage(lab.safe, lab.market(), 400 * USD, is_long=True)
    (part,) = p.decode_logs(receipt["logs"], lab.module)
    assert part.args["returned"] == lab.known().returned > 0
    assert lab.reserved() == COST - part.args["returned"]
    over = settled(lab.close())
    assert over.args["profit"] > 0


def test_without_a_callback_the_whole_cost_is_charged_and_no_share_paid(lab: PerpLab) -> None:
    lab.open()
    for key in (NO_KEY, trade("b")):
        with reverts("NO_TRADE"):
            lab.send("rogue", p.settle_data(lab.safe, key))
    with reverts("POSITION_EXISTS"):
        lab.settle()
    deaf(lab)
    lab.feed("2600")
    before = lab.usdc()
    assert lab.close() == []
    assert lab.usdc() - before > 110 * USDC, "the trade has won"
    assert (lab.reserved(), lab.known().ended) == (COST, False)
    over = lab.settle()
    assert (over.args["loss"], over.args["share"], over.args["returned"]) == (COST, 0, 0)
    assert (lab.reserved(), lab.charged(), lab.unshared()) == (0, COST, -COST)
    with reverts("NO_TRADE"):
        lab.settle()


def deaf(lab: PerpLab) -> None:
    """The module asks a role store that knows no controller: no callback is trusted any more."""
    args = module_args(lab.world)
    builder = Builder(lab.world.rpc_url)
    args[5] = builder.local("RoleStore", [], [])
    variant = builder.local("PerpModule", MODULE_ARGS, args)
    lab.rpc("anvil_setCode", lab.module, lab.rpc("eth_getCode", variant, "latest"))


def test_settle_waits_for_a_pending_increase(lab: PerpLab) -> None:
    lab.request()
    with reverts("ORDER_PENDING"):
        lab.settle()


def test_a_stolen_budget_ends_with_the_budget(lab: PerpLab) -> None:
    """Total losses, one after the other: the sum never passes the day's budget."""
    start = lab.usdc()
    for number in range(5):
        lab.advance(2)
        if lab.headroom().loss_left < COST:
            with reverts("LOSS_BUDGET"):
                lab.open(str(number), leverage=10)
            continue
        lab.open(str(number), leverage=10)
        lab.liquidate("2250")
    assert 200 * USDC < start - lab.usdc() <= 250 * USDC
    lab.advance(31 * 3_600)
    lab.request("next day")


# ------------------------------------------------------------------ profit share


def test_a_winner_pays_exactly_its_share(lab: PerpLab) -> None:
    before = lab.usdc()
    lab.open()
    lab.feed("2600")
    over = settled(lab.close())
    profit = over.args["profit"]
    assert over.args["share"] == profit // 5 == lab.usdc("profit_receiver")
    assert over.args["profit_receiver"] == lab.world.accounts["profit_receiver"]
    assert lab.usdc() - before == profit - profit // 5
    assert lab.unshared() == 0


def test_losses_are_carried_forward(lab: PerpLab) -> None:
    lab.open("lose")
    lab.feed("2400")
    lost = settled(lab.close("lose")).args["loss"]
    assert (lab.unshared(), lab.usdc("profit_receiver")) == (-lost, 0)
    lab.advance(2)
    lab.open("win")
    lab.feed("2700")
    won = settled(lab.close("win"))
    assert won.args["profit"] > lost
    assert won.args["share"] == (won.args["profit"] - lost) // 5 == lab.usdc("profit_receiver")


def test_a_winner_pays_nothing_while_a_loser_can_still_lose(lab: PerpLab) -> None:
    lab.open("win")
    lab.advance(2)
    lab.open("lose", "WBTC")
    lab.feed("2700")
    lab.feed("57000", "WBTC")
    won = settled(lab.close("win"))
    assert won.args["profit"] > 0 == won.args["share"] == lab.usdc("profit_receiver")
    assert lab.unshared() == won.args["profit"]
    lost = settled(lab.close("lose"))
    net = won.args["profit"] - lost.args["loss"]
    assert 0 < net == won.args["profit"] + lost.args["profit"]
    assert lost.args["share"] == net // 5 == lab.usdc("profit_receiver"), (
        "what was withheld is paid in the end"
    )
    assert lab.unshared() == 0


def test_terms_are_those_of_the_open(lab: PerpLab) -> None:
    lab.open()
    rogue = lab.world.accounts["rogue"]
    lab.sign(profit_share_bps=0, profit_receiver=rogue, fee_receiver=rogue)
    lab.feed("2600")
    over = settled(lab.close())
    assert over.args["share"] == over.args["profit"] // 5 == lab.usdc("profit_receiver")
    assert lab.usdc("rogue") == 0


def test_a_share_that_cannot_be_paid_undoes_nothing(lab: PerpLab) -> None:
    log = lab.open(target_price=lab.units("2600"))
    sentinel = "0x0000000000000000000000000000000000000001"
    transact(lab.rpc, lab.safe, lab.safe, encode_call("disableModule(address,address)", sentinel, lab.module))
    lab.feed("2600")
    over = settled(lab.execute(log.args["target_key"]))
    assert over.args["profit"] > 0 == over.args["share"]
    assert (lab.unshared(), lab.reserved()) == (over.args["profit"], 0)
    assert over.args["unshared"] == over.args["profit"]


def test_the_safe_itself_may_be_the_receiver(lab: PerpLab) -> None:
    lab.sign(fee_receiver=lab.safe, profit_receiver=lab.safe)
    before = lab.usdc()
    lab.open()
    lab.feed("2600")
    over = settled(lab.close())
    assert over.args["share"] == over.args["profit"] // 5
    assert lab.usdc() - before == over.args["returned"] - COLLATERAL


# ------------------------------------------------------------------ closing and cancelling


def test_only_the_executor_and_the_safe_close(lab: PerpLab) -> None:
    lab.open()
    for stranger in ("guardian", "owner", "rogue"):
        with reverts("NOT_EXECUTOR"):
            lab.request_close(by=stranger)
    with reverts("NO_TRADE"):
        lab.request_close("b")
    lab.close()
    for name in ("a", "b"):
        with reverts("NO_TRADE"):
            lab.request_close(name)
    with reverts("NO_POSITION"):
        lab.request_close(by=lab.safe)


def test_a_close_needs_a_position(lab: PerpLab) -> None:
    lab.request()
    with reverts("NO_POSITION"):
        lab.request_close()
    with reverts("NO_POSITION"):
        lab.request_close(size_usd=0)


def test_one_close_of_the_executor_at_a_time(lab: PerpLab) -> None:
    lab.open()
    first = lab.request_close(size_usd=100 * USD)
    with reverts("CLOSE_PENDING"):
        lab.request_close(size_usd=100 * USD)
    lab.request_close(size_usd=100 * USD, by=lab.safe)
    lab.execute(first.args["order_key"])


def test_owners_leave_without_executor_feed_and_budget(lab: PerpLab) -> None:
    lab.open()
    lab.send("guardian", p.call_data("stop", lab.safe, p.HALTED))
    lab.send("rogue", encode_call("set_answer(int256)", 1), lab.world.sequencer_feed)
    with reverts("STOPPED"):
        lab.request_close()
    lab.send(lab.safe, p.call_data("revoke"))
    with reverts("NOT_EXECUTOR"):
        lab.request_close()
    over = settled(lab.execute(lab.request_close(by=lab.safe, acceptable=1).args["order_key"]))
    assert over.args["returned"] > 95 * USDC


def test_owners_leave_by_gmx_alone(lab: PerpLab) -> None:
    """The module disabled, the owner's own order at GMX: the money is the Safe's."""
    lab.open()
    sentinel = "0x0000000000000000000000000000000000000001"
    transact(lab.rpc, lab.safe, lab.safe, encode_call("disableModule(address,address)", sentinel, lab.module))
    before = lab.usdc()
    key = own_order(lab, calls.OrderType.MARKET_DECREASE, 500 * USD, 1)
    lab.execute(key)
    assert lab.usdc() - before > 95 * USDC
    over = lab.settle()
    assert over.args["loss"] == COST, "the module heard nothing of what returned"


def own_order(
    lab: PerpLab, kind: calls.OrderType, size: int, acceptable: int, collateral: int = 0, **more: Any
) -> bytes:
    """The owner's own order at GMX, without the module; its key."""
    params = router.OrderParams(
        lab.safe, lab.safe, more.pop("callback_contract", ZERO_ADDRESS), more.pop("market", lab.market()),
        lab.world.usdc, size, kind, more.pop("is_long", True), acceptable, FEE,
    )  # fmt: skip
    if collateral:
        transact(
            lab.rpc,
            lab.safe,
            lab.world.usdc,
            encode_call("approve(address,uint256)", lab.gmx.router, collateral),
        )
    batch = [router.send_wnt(lab.gmx.order_vault, FEE), router.create_order(params)]
    if collateral:
        batch.insert(0, router.send_tokens(lab.world.usdc, lab.gmx.order_vault, collateral))
    transact(lab.rpc, lab.safe, lab.gmx.exchange_router, router.multicall(batch), FEE)
    return lab.keeper.orders()[-1]


def test_a_market_order_can_be_cancelled_by_anyone_after_300_seconds(lab: PerpLab) -> None:
    key = lab.request().args["order_key"]
    with reverts("NOT_EXECUTOR"):
        lab.cancel(key, "rogue")
    with pytest.raises(Reverted):  # GMX's RequestNotYetCancellable
        lab.cancel(key)
    lab.advance(299)
    with reverts("NOT_EXECUTOR"):
        lab.cancel(key, "rogue")
    lab.advance(3)
    before = lab.usdc()
    ended, over = lab.cancel(key, "rogue")
    assert (ended.args["outcome"], ended.args["returned"]) == (p.CANCELLED, COLLATERAL)
    assert over.args["loss"] == TRADE_FEE
    assert lab.usdc() - before == COLLATERAL
    assert lab.reserved() == 0


def test_the_safe_cancels_at_gmx_itself_and_the_books_follow(lab: PerpLab) -> None:
    key = lab.request().args["order_key"]
    lab.advance(301)
    logs = lab.send(lab.safe, router.cancel_order(key), lab.gmx.exchange_router)
    assert settled(logs).args["loss"] == TRADE_FEE
    assert lab.reserved() == 0


def test_a_pending_close_can_be_cancelled_after_300_seconds(lab: PerpLab) -> None:
    lab.open()
    key = lab.request_close().args["order_key"]
    lab.advance(301)
    (ended,) = lab.cancel(key, "rogue")
    assert (ended.args["outcome"], ended.args["returned"]) == (p.CANCELLED, 0)
    assert not lab.known().ended
    lab.close()


def test_stops_of_an_open_trade_are_cancelled_by_executor_and_safe_only(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    lab.advance(400)
    for stranger in ("rogue", "guardian"):
        with reverts("NOT_EXECUTOR"):
            lab.cancel(log.args["stop_key"], stranger)
    lab.cancel(log.args["stop_key"])
    lab.send("guardian", p.call_data("stop", lab.safe, p.HALTED))
    with reverts("NOT_EXECUTOR"):
        lab.cancel(log.args["target_key"])
    lab.cancel(log.args["target_key"], lab.safe)
    assert not lab.holds_order(log.args["target_key"])
    assert not lab.known().ended


def test_orders_that_are_not_the_modules_cannot_be_cancelled_through_it(lab: PerpLab) -> None:
    key = own_order(lab, calls.OrderType.STOP_LOSS_DECREASE, 500 * USD, 0)
    lab.advance(400)
    for sender in ("executor", "rogue", lab.safe):
        with reverts("UNKNOWN_ORDER"):
            lab.cancel(key, sender)


def test_stops_left_of_a_cancelled_increase_block_the_market_until_anyone_cancels_them(lab: PerpLab) -> None:
    log = lab.request(stop_price=lab.units("2400"), target_price=lab.units("2700"))
    lab.execute(log.args["order_key"], "2600")
    lab.advance(2)
    for name in ("stop_key", "target_key"):
        with reverts("ORDER_LEFT"):
            lab.request("b")
        (ended,) = lab.cancel(log.args[name], "rogue")
        assert (ended.args["outcome"], ended.args["returned"]) == (p.CANCELLED, 0)
    lab.request("b")


def test_frozen_orders_stay_until_they_are_cancelled(lab: PerpLab) -> None:
    log = lab.open(stop_price=lab.units("2400"))
    transact(lab.rpc, lab.safe, lab.gmx.exchange_router, freeze_data(lab, log.args["stop_key"]), 0)
    lab.feed("2300")
    assert lab.execute(log.args["stop_key"]) == [], "frozen: nothing for the module"
    assert lab.holds_order(log.args["stop_key"])
    settled(lab.close())
    assert not lab.holds_order(log.args["stop_key"])


def freeze_data(lab: PerpLab, key: bytes) -> bytes:
    """The owner sets an acceptable price on the stop that a gap passes: GMX then freezes it."""
    return encode_call(
        "updateOrder(bytes32,uint256,uint256,uint256,uint256,uint256,bool)",
        key, 500 * USD, lab.units("2390"), lab.units("2400"), 0, 0, True,
    )  # fmt: skip


# ------------------------------------------------------------------ one trade a market


def test_one_trade_a_market_on_either_side(lab: PerpLab) -> None:
    lab.request()
    lab.advance(2)
    for short in (False, True):
        with reverts("MARKET_IN_USE"):
            lab.request("b", short=short)
    lab.request("b", "WBTC")


@pytest.mark.parametrize("is_long", [True, False])
def test_the_owners_own_position_blocks_its_market(lab: PerpLab, is_long: bool) -> None:
    acceptable = HIGHEST if is_long else 0
    key = own_order(lab, calls.OrderType.MARKET_INCREASE, 100 * USD, acceptable, 50 * USDC, is_long=is_long)
    lab.execute(key)
    assert lab.position_size(is_long=is_long) == 100 * USD
    for short in (False, True):
        with reverts("POSITION_EXISTS"):
            lab.request(short=short)
    lab.request("b", "WBTC")


def test_a_market_with_an_open_trade_stays_in_the_policy(lab: PerpLab) -> None:
    weth, wbtc = lab.rules()
    lab.open()
    for delay in (0, DAY):
        with reverts("MARKET_IN_USE"):
            lab.sign([wbtc], loosen_delay=delay)
    lab.sign([weth])
    lab.close()
    lab.sign([wbtc])


def test_the_safe_takes_a_trade_as_its_own(lab: PerpLab) -> None:
    lab.open(stop_price=lab.units("2400"))
    for stranger in ("executor", "guardian"):
        with reverts("NO_TRADE"):
            lab.send(stranger, p.call_data("release_trade", trade("a")))
    (log,) = lab.send(lab.safe, p.call_data("release_trade", trade("a")))
    assert (log.name, log.args["cost"]) == ("TradeReleased", COST)
    assert (lab.reserved(), lab.charged()) == (0, 0)
    with reverts("NO_TRADE"):
        lab.request_close()
    lab.advance(2)
    with reverts("ORDER_LEFT"):
        lab.request("b")
    lab.feed("2700")
    key = lab.request_close(by=lab.safe, acceptable=1).args["order_key"]
    (ended, _) = lab.execute(key)
    assert ended.args["returned"] == 0, "it is no trade of the module any more"
    assert lab.usdc("profit_receiver") == 0


def test_a_safe_has_no_power_over_another(lab: PerpLab) -> None:
    other = lab.another_safe(executor=lab.world.accounts["trader"])
    key = lab.open(stop_price=lab.units("2400")).args["stop_key"]
    with reverts("NO_TRADE"):
        lab.send(other, p.call_data("release_trade", trade("a")))
    with reverts("NOT_EXECUTOR"):
        lab.request_close(by=other)
    with reverts("NOT_EXECUTOR"):
        lab.request("b", "WBTC", by="trader")
    with reverts("NOT_GUARDIAN"):
        lab.send(other, p.call_data("stop", lab.safe, p.HALTED))
    with reverts("NOT_EXECUTOR"):
        lab.cancel(key, other)
    with reverts("UNKNOWN_ORDER"):
        lab.send(other, p.cancel_data(other, key))


def test_disabled_module_can_do_nothing(lab: PerpLab) -> None:
    sentinel = "0x0000000000000000000000000000000000000001"
    transact(lab.rpc, lab.safe, lab.safe, encode_call("disableModule(address,address)", sentinel, lab.module))
    with reverts("GS104"):
        lab.request()


# ------------------------------------------------------------------ funding


def test_anyone_claims_funding_for_the_safe(lab: PerpLab) -> None:
    with reverts("NO_TRADE"):
        lab.send("rogue", p.claim_data(lab.safe, lab.market()))
    lab.open(short=True, collateral=100 * USDC, leverage=10)
    lab.advance(DAY)
    lab.feed("2500")
    lab.close()
    before = lab.usdc()
    (log,) = lab.send("rogue", p.claim_data(lab.safe, lab.market()))
    assert (log.name, log.args["token"]) == ("FundingClaimed", lab.world.usdc)
    assert lab.usdc() - before == log.args["amount"] > 0
    (again,) = lab.send("rogue", p.claim_data(lab.safe, lab.market(), lab.world.address_of("WETH")))
    assert again.args["amount"] == 0


# ------------------------------------------------------------------ events


def test_events_alone_rebuild_trades_fees_and_shares(lab: PerpLab) -> None:
    lab.sign(loss_budget=500 * USDC)
    lab.open("win")
    lab.advance(2)
    lab.open("lose", "WBTC")
    lab.feed("2600")
    lab.feed("58000", "WBTC")
    lab.close("win", 200 * USD)
    lab.close("lose")
    lab.close("win")
    lab.advance(2)
    lab.open("half", "WBTC", stop_price=lab.units("50000", "WBTC"))
    lab.close("half", 100 * USD)
    lab.advance(2)
    lab.request("pending")
    book = p.rebuild(lab.logs())[lab.safe]
    for name in ("win", "lose", "half", "pending"):
        seen, told = lab.known(name), book.trades[trade(name)]
        assert (seen.market, seen.cost, seen.returned, seen.ended, seen.is_long, seen.profit_receiver) == (
            told.market, told.cost, told.returned, told.ended, told.is_long, told.profit_receiver,
        )  # fmt: skip
        assert {key for key in told.orders if lab.holds_order(key)} == told.orders
    assert book.fees == {lab.world.accounts["fee_receiver"]: lab.usdc("fee_receiver")}
    assert book.shares == {lab.world.accounts["profit_receiver"]: lab.usdc("profit_receiver")}
    assert (book.unshared, book.total_charged, book.reserved) == (
        lab.unshared(),
        lab.charged(),
        lab.reserved(),
    )
