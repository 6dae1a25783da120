"""The double of GMX v2 goes through the life of orders as GMX does."""

import contextlib
import random
import re
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from eth_utils.crypto import keccak

from maxxit.evm.codec import ZERO_ADDRESS, encode_call
from maxxit.ops.devchain.gmx import data_key
from maxxit.ops.devchain.keeper import PRICES, Keeper
from maxxit.ops.devchain.world import Reverted, transact
from tests.chain.gmx import router
from tests.chain.gmx.lab import FEE, HIGHEST, USD, USDC, GmxLab, OrderType, error
from tests.chain.gmx.replay import CALLBACK_SELECTORS, callbacks, typed
from tests.chain.gmx.router import OrderParams
from tests.chain.lab import DAY, reverts
from trading.venues.gmx.events import (
    ClaimableFundingUpdated,
    ExecutionFeeRefund,
    FundingFeesClaimed,
    KeeperExecutionFee,
    OrderCancelled,
    OrderExecuted,
    OrderFrozen,
    PositionDecrease,
    PositionFeesCollected,
    PositionIncrease,
)
from trading.venues.gmx.refusals import refusal_of
from trading.venues.safe.contract.build import GMX, load

pytestmark = pytest.mark.chain


def test_open_and_close(gmx: GmxLab) -> None:
    before = gmx.usdc(gmx.account)
    key = gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    assert gmx.usdc(gmx.account) == before - 1_000 * USDC
    (stored,) = gmx.orders()
    assert (stored.key, stored.collateral, stored.execution_fee) == (key, 1_000 * USDC, FEE)

    ether = gmx.ether(gmx.account)
    done = gmx.execute(key)
    (executed,), (increase,) = done.of(OrderExecuted), done.of(PositionIncrease)
    assert executed.key == increase.order_key == "0x" + key.hex()
    (keeper,), (refund,) = done.of(KeeperExecutionFee), done.of(ExecutionFeeRefund)
    assert keeper.execution_fee_amount + refund.refund_fee_amount == FEE
    assert gmx.ether(gmx.account) - ether == refund.refund_fee_amount
    (position,) = gmx.positions()
    assert position.size_usd == 10_000 * USD
    assert position.collateral == 994 * USDC
    assert gmx.orders() == []

    gmx.world.set_feed("WETH", gmx.world.price("WETH") * 11 / 10)
    close = gmx.order(OrderType.MARKET_DECREASE, 10_000)
    (decrease,) = gmx.execute(close).of(PositionDecrease)
    assert abs(decrease.base_pnl_usd - 1_000 * USD) < USD // 10**6
    assert gmx.positions() == []
    assert abs(gmx.usdc(gmx.account) - before - 990 * USDC) < USDC // 100


def test_a_market_order_that_fails_is_cancelled(gmx: GmxLab) -> None:
    before = gmx.usdc(gmx.account)
    price = int(gmx.world.price("WETH") * 10**12)
    key = gmx.order(
        OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC, acceptable_price=price * 99 // 100
    )
    (cancelled,) = gmx.execute(key).of(OrderCancelled)
    assert cancelled.reason_bytes.startswith(
        error("OrderNotFulfillableAtAcceptablePrice(uint256,uint256)", 0, 0)[:10]
    )
    assert gmx.usdc(gmx.account) == before
    assert gmx.orders() == []


def test_a_market_order_may_be_cancelled_after_300_seconds(gmx: GmxLab) -> None:
    before = gmx.usdc(gmx.account)
    key = gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    with reverts(error("RequestNotYetCancellable(uint256,uint256,string)", 0, 0, "")[:10]):
        gmx.act(router.cancel_order(key))
    gmx.advance(301)
    with reverts(
        error("OracleTimestampsAreLargerThanRequestExpirationTime(uint256,uint256,uint256)", 0, 0, 0)[:10]
    ):
        gmx.execute(key)
    (cancelled,) = gmx.decoded(gmx.act(router.cancel_order(key))).of(OrderCancelled)
    assert cancelled.reason == "USER_INITIATED_CANCEL"
    assert gmx.usdc(gmx.account) == before


def test_stop_and_target_the_other_one_is_cancelled(gmx: GmxLab) -> None:
    gmx.enter()
    price = gmx.world.price("WETH")
    stop = gmx.order(
        OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=int(price * 95 // 100 * 10**12), auto_cancel=True
    )
    target = gmx.order(
        OrderType.LIMIT_DECREASE, 10_000, trigger_price=int(price * 105 // 100 * 10**12), auto_cancel=True
    )
    for key in (stop, target):
        with reverts(error("InvalidOrderPrices(uint256,uint256,uint256,uint256)", 0, 0, 0, 0)[:10]):
            gmx.execute(key)
    done = gmx.execute(stop, price * 94 / 100)
    (cancelled,) = done.of(OrderCancelled)
    assert (cancelled.key, cancelled.reason) == ("0x" + target.hex(), "AUTO_CANCEL")
    assert gmx.orders() == []
    assert gmx.positions() == []


def test_a_stop_order_that_fails_freezes(gmx: GmxLab) -> None:
    gmx.enter()
    price = int(gmx.world.price("WETH") * 10**12)
    stop = gmx.order(
        OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=price * 95 // 100, acceptable_price=price * 94 // 100,
        auto_cancel=True,
    )  # fmt: skip
    (frozen,) = gmx.execute(stop, gmx.world.price("WETH") * 93 / 100).of(OrderFrozen)
    assert frozen.key == "0x" + stop.hex()
    (stored,) = gmx.orders()
    assert (stored.frozen, stored.execution_fee) == (True, 0)
    gmx.decoded(gmx.act(router.cancel_order(stop)))
    assert gmx.orders() == []


# ------------------------------------------------------------------ what the keeper can do


def test_what_the_keeper_lets_fail_is_cancelled_or_frozen(gmx: GmxLab) -> None:
    gmx.enter()
    price = gmx.world.price("WETH")
    stop = gmx.order(
        OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=units(price * 95 / 100), auto_cancel=True
    )
    (frozen,) = gmx.decoded(gmx.keeper.fail(stop, price * 94 / 100)).of(OrderFrozen)
    assert frozen.key == "0x" + stop.hex()
    close = gmx.order(OrderType.MARKET_DECREASE, 10_000)
    (cancelled,) = gmx.decoded(gmx.keeper.fail(close)).of(OrderCancelled)
    assert cancelled.reason_bytes.startswith(
        error("InsufficientFundsToPayForCosts(uint256,string)", 0, "")[:10]
    )
    enter = gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    before = gmx.usdc(gmx.account)
    assert gmx.decoded(gmx.keeper.fail(enter)).of(OrderCancelled)
    assert gmx.usdc(gmx.account) == before + 1_000 * USDC
    assert gmx.value("POSITION_FEE_FACTOR", gmx.market, True, types="ab") == USD * 4 // 10_000
    (position,) = gmx.positions()
    assert position.size_usd == 10_000 * USD


def test_step_executes_what_is_due_and_liquidates(gmx: GmxLab) -> None:
    price = gmx.world.price("WETH")
    gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    stop = gmx.order(
        OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=units(price * 95 / 100), auto_cancel=True
    )
    assert len(gmx.keeper.step()) == 1
    assert [order.key for order in gmx.orders()] == [stop]
    assert gmx.keeper.step() == []
    gmx.world.set_feed("WETH", price * 94 / 100)
    assert len(gmx.keeper.step()) == 1
    assert gmx.orders() == gmx.positions() == []

    gmx.enter(collateral=1_000 * USDC)
    gmx.world.set_feed("WETH", gmx.world.price("WETH") * 905 / 1_000)
    (receipt,) = gmx.keeper.step()
    assert gmx.decoded(receipt).of(PositionDecrease)[0].order_type == OrderType.LIQUIDATION
    assert gmx.keeper.step() == []


@pytest.mark.parametrize(("delay", "executed"), [(60, 1), (301, 0)])
def test_a_keeper_that_comes_late_or_too_late(gmx: GmxLab, delay: int, executed: int) -> None:
    keeper = Keeper(gmx.world, delay)
    gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    assert keeper.step() == []
    gmx.advance(delay + 1)
    assert len(keeper.step()) == executed
    assert len(gmx.positions()) == executed


def test_only_keepers_execute(gmx: GmxLab) -> None:
    key = gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    gmx.enter(collateral=1_000 * USDC)
    prices = gmx.keeper.prices(gmx.market)
    calls_of = {
        gmx.gmx.order_handler: encode_call(f"executeOrder(bytes32,{PRICES})", key, prices),
        gmx.gmx.liquidation_handler: encode_call(
            f"executeLiquidation(address,address,address,bool,{PRICES})",
            gmx.account, gmx.market, gmx.world.usdc, True, prices,
        ),
        gmx.gmx.adl_handler: encode_call(f"updateAdlState(address,bool,{PRICES})", gmx.market, True, prices),
        gmx.gmx.oracle: encode_call(f"setPrices({PRICES})", prices),
        gmx.gmx.order_vault: encode_call("transferOut(address,address,uint256)", gmx.world.usdc, gmx.account, 1),
        gmx.gmx.data_store: encode_call("setUint(bytes32,uint256)", bytes(32), 1),
        gmx.gmx.router: encode_call(
            "pluginTransfer(address,address,address,uint256)", gmx.world.usdc, gmx.account, gmx.account, 1
        ),
    }  # fmt: skip
    for to, call in calls_of.items():
        with reverts(error("Unauthorized(address,string)", gmx.account, "")[:10]):
            transact(gmx.rpc, gmx.account, to, call)


def test_old_prices_and_prices_from_before_the_order_are_refused(gmx: GmxLab) -> None:
    key = gmx.order(OrderType.MARKET_INCREASE, 10_000, collateral=1_000 * USDC)
    with reverts(error("OracleTimestampsAreSmallerThanRequired(uint256,uint256)", 0, 0)[:10]):
        gmx.execute(key, age=60)
    gmx.advance(400)
    with reverts(error("MaxPriceAgeExceeded(uint256,uint256)", 0, 0)[:10]):
        gmx.execute(key, age=350)


def test_a_frozen_order_is_executed_only_by_a_keeper_of_frozen_orders(gmx: GmxLab) -> None:
    gmx.enter()
    price = gmx.world.price("WETH")
    stop = gmx.order(OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=units(price * 95 / 100))
    gmx.keeper.fail(stop, price * 94 / 100)
    role = (gmx.world.accounts["keeper"], data_key("FROZEN_ORDER_KEEPER"))
    gmx.world.send("deployer", gmx.gmx.role_store, encode_call("revokeRole(address,bytes32)", *role))
    with reverts(error("InvalidKeeperForFrozenOrder(address)", role[0])):
        gmx.execute(stop, price * 94 / 100)
    gmx.world.send("deployer", gmx.gmx.role_store, encode_call("grantRole(address,bytes32)", *role))
    assert gmx.execute(stop, price * 94 / 100).of(OrderExecuted)


# --------------------------------------------------------------------------------- orders


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"callback_gas_limit": 2_000_001}, "MaxCallbackGasLimitExceeded(uint256,uint256)"),
        ({"execution_fee": 10**12}, "InsufficientExecutionFee(uint256,uint256)"),
        ({"receiver": ZERO_ADDRESS}, "EmptyReceiver()"),
        ({"market": ZERO_ADDRESS}, "EmptyMarket()"),
        ({"swap_path": ("0x" + "11" * 20,)}, "OrderTypeCannotBeCreated(uint256)"),
        ({"auto_cancel": True}, "UnsupportedOrderTypeForAutoCancellation(uint256)"),
        ({"kind": OrderType.LIQUIDATION}, "OrderTypeCannotBeCreated(uint256)"),
        ({"kind": OrderType.MARKET_SWAP}, "OrderTypeCannotBeCreated(uint256)"),
    ],
)
def test_orders_that_cannot_be_created(gmx: GmxLab, changes: dict[str, Any], refusal: str) -> None:
    kind = changes.pop("kind", OrderType.MARKET_INCREASE)
    with reverts("0x" + keccak(text=refusal)[:4].hex()):
        gmx.order(kind, 10_000, collateral=100 * USDC, **changes)


def test_collateral_other_than_usdc_is_refused(gmx: GmxLab) -> None:
    weth = gmx.world.address_of("WETH")
    with reverts(error("InvalidCollateralTokenForMarket(address,address)", gmx.market, weth)):
        gmx.order(OrderType.MARKET_INCREASE, 10_000, initial_collateral_token=weth)


def test_the_fee_must_have_arrived_in_the_vault(gmx: GmxLab) -> None:
    params = OrderParams(
        gmx.account, gmx.account, ZERO_ADDRESS, gmx.market, gmx.world.usdc, 10_000 * USD,
        OrderType.MARKET_DECREASE, True, 0, FEE,
    )  # fmt: skip
    with reverts(error("InsufficientWntAmountForExecutionFee(uint256,uint256)", 0, FEE)):
        gmx.act(router.create_order(params))


def test_another_account_cannot_touch_an_order(gmx: GmxLab) -> None:
    gmx.enter()
    stop = gmx.order(OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=units(Decimal(1)))
    with reverts(error("Unauthorized(address,string)", gmx.account, "")[:10]):
        gmx.world.send("trader", gmx.gmx.exchange_router, router.cancel_order(stop))


def test_update_thaws_a_frozen_order(gmx: GmxLab) -> None:
    gmx.enter()
    price = gmx.world.price("WETH")
    stop = gmx.order(
        OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=units(price * 95 / 100), auto_cancel=True
    )
    gmx.keeper.fail(stop, price * 94 / 100)
    update = encode_call(
        "updateOrder(bytes32,uint256,uint256,uint256,uint256,uint256,bool)",
        stop, 5_000 * USD, 0, units(price * 96 / 100), 0, 0, True,
    )  # fmt: skip
    with reverts(error("InsufficientExecutionFee(uint256,uint256)", 0, 0)[:10]):
        gmx.act(update)
    batch = [router.send_wnt(gmx.gmx.order_vault, FEE), update]
    gmx.decoded(gmx.act(router.multicall(batch), value=FEE))
    (stored,) = gmx.orders()
    assert (stored.frozen, stored.execution_fee, stored.size_delta_usd) == (False, FEE, 5_000 * USD)
    assert gmx.execute(stop, price * 955 / 1_000).of(OrderExecuted)
    (position,) = gmx.positions()
    assert position.size_usd == 5_000 * USD


def test_an_order_waits_for_its_time(gmx: GmxLab) -> None:
    key = gmx.order(
        OrderType.LIMIT_INCREASE, 10_000, collateral=1_000 * USDC, trigger_price=HIGHEST,
        valid_from_time=gmx.world.now() + 1_000,
    )  # fmt: skip
    with reverts(error("OrderValidFromTimeNotReached(uint256,uint256)", 0, 0)[:10]):
        gmx.execute(key)
    gmx.advance(1_000)
    assert gmx.execute(key).of(OrderExecuted)


@pytest.mark.parametrize(
    ("kind", "is_long", "waits", "goes"),
    [
        (OrderType.LIMIT_INCREASE, True, "101", "99"),
        (OrderType.LIMIT_INCREASE, False, "99", "101"),
        (OrderType.STOP_INCREASE, True, "99", "101"),
        (OrderType.STOP_INCREASE, False, "101", "99"),
        (OrderType.LIMIT_DECREASE, True, "99", "101"),
        (OrderType.LIMIT_DECREASE, False, "101", "99"),
        (OrderType.STOP_LOSS_DECREASE, True, "101", "99"),
        (OrderType.STOP_LOSS_DECREASE, False, "99", "101"),
    ],
)
def test_triggers(gmx: GmxLab, kind: OrderType, is_long: bool, waits: str, goes: str) -> None:
    price = gmx.world.price("WETH")
    increase = kind in (OrderType.LIMIT_INCREASE, OrderType.STOP_INCREASE)
    if not increase:
        gmx.enter(is_long=is_long)
    more = {"collateral": 1_000 * USDC} if increase else {}
    key = gmx.order(kind, 10_000, is_long=is_long, trigger_price=units(price), **more)
    with reverts(error("InvalidOrderPrices(uint256,uint256,uint256,uint256)", 0, 0, 0, 0)[:10]):
        gmx.execute(key, price * Decimal(waits) / 100)
    assert gmx.execute(key, price * Decimal(goes) / 100).of(OrderExecuted)


def test_a_trigger_order_without_a_position_stays(gmx: GmxLab) -> None:
    stop = gmx.order(OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=HIGHEST)
    with reverts("0x" + keccak(text="EmptyPosition()")[:4].hex()):
        gmx.execute(stop)
    assert [order.key for order in gmx.orders()] == [stop]


def test_six_orders_of_a_position_are_cancelled_with_it_a_seventh_is_refused(gmx: GmxLab) -> None:
    gmx.enter()
    for number in range(6):
        gmx.order(OrderType.STOP_LOSS_DECREASE, 1_000, trigger_price=number + 1, auto_cancel=True)
    with reverts(error("MaxAutoCancelOrdersExceeded(uint256,uint256)", 7, 6)):
        gmx.order(OrderType.STOP_LOSS_DECREASE, 1_000, trigger_price=1, auto_cancel=True)
    other = gmx.order(OrderType.STOP_LOSS_DECREASE, 1_000, trigger_price=1)
    done = gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 10_000))
    assert len(done.of(OrderCancelled)) == 6
    assert [order.key for order in gmx.orders()] == [other]


def test_a_stop_larger_than_the_position_closes_it_a_market_order_is_cancelled(gmx: GmxLab) -> None:
    gmx.enter()
    gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 4_000))
    close = gmx.order(OrderType.MARKET_DECREASE, 10_000)
    (cancelled,) = gmx.execute(close).of(OrderCancelled)
    assert cancelled.reason_bytes == error(
        "InvalidDecreaseOrderSize(uint256,uint256)", 10_000 * USD, 6_000 * USD
    )
    stop = gmx.order(OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=HIGHEST)
    receipt = gmx.keeper.execute(stop)
    names = [
        typed(log).name for log in receipt["logs"] if log["address"].lower() == gmx.gmx.event_emitter.lower()
    ]
    assert "OrderSizeDeltaAutoUpdated" in names
    assert gmx.positions() == []


# ------------------------------------------------------------------------------ callbacks


def test_a_callback_that_fails_stops_nothing(gmx: GmxLab) -> None:
    for target in (gmx.world.module, gmx.world.usdc):  # neither has the functions
        key = gmx.order(
            OrderType.MARKET_INCREASE, 1_000, collateral=100 * USDC, callback_contract=target,
            callback_gas_limit=300_000,
        )  # fmt: skip
        assert gmx.execute(key).of(OrderExecuted)


def test_a_receiver_that_refuses_the_coin_gets_wnt(gmx: GmxLab) -> None:
    gmx.enter()
    close = gmx.order(OrderType.MARKET_DECREASE, 10_000, receiver=gmx.world.router)
    before = gmx.world.balance("WETH", gmx.world.router)
    (refund,) = gmx.execute(close).of(ExecutionFeeRefund)
    assert gmx.world.balance("WETH", gmx.world.router) - before == refund.refund_fee_amount


def test_liquidation_tells_the_saved_callback_contract(gmx: GmxLab) -> None:
    gmx.enter()
    saved = encode_call("setSavedCallbackContract(address,address)", gmx.market, gmx.gmx.order_vault)
    gmx.act(saved)
    stop = gmx.order(OrderType.STOP_LOSS_DECREASE, 10_000, trigger_price=1, auto_cancel=True)
    price = gmx.world.price("WETH")
    with reverts(error("PositionShouldNotBeLiquidated(string,int256,int256,int256)", "", 0, 0, 0)[:10]):
        gmx.keeper.liquidate(gmx.account, gmx.market, is_long=True)
    receipt = gmx.keeper.liquidate(gmx.account, gmx.market, is_long=True, price=price * 90 / 100)
    (callback,) = callbacks(gmx.rpc, receipt)
    assert callback.outcome == "executed"
    (cancelled,) = gmx.decoded_any(receipt).of(OrderCancelled)
    assert (cancelled.key, gmx.orders()) == ("0x" + stop.hex(), [])


# ---------------------------------------------------------------------------------- money


def test_insolvent_liquidation_takes_the_collateral_and_no_more(gmx: GmxLab) -> None:
    gmx.enter()
    before = gmx.usdc(gmx.account)
    price = gmx.world.price("WETH")
    receipt = gmx.keeper.liquidate(gmx.account, gmx.market, is_long=True, price=price * 80 / 100)
    names = [
        typed(log).name for log in receipt["logs"] if log["address"].lower() == gmx.gmx.event_emitter.lower()
    ]
    assert {"InsolventClose", "PositionFeesInfo"} < set(names)
    assert "PositionFeesCollected" not in names
    assert gmx.usdc(gmx.account) == before
    assert gmx.positions() == []


def test_deleveraging(gmx: GmxLab) -> None:
    gmx.enter()
    price = gmx.world.price("WETH")
    with reverts("0x" + keccak(text="AdlNotEnabled()")[:4].hex()):
        gmx.keeper.deleverage(gmx.account, gmx.market, 5_000 * USD, is_long=True)
    gmx.set_value(USD // 1_000, "MAX_PNL_FACTOR_FOR_ADL", gmx.market, True, types="ab")
    before = gmx.usdc(gmx.account)
    done = gmx.decoded_any(
        gmx.keeper.deleverage(gmx.account, gmx.market, 5_000 * USD, is_long=True, price=price * 120 / 100)
    )
    (executed,), (decrease,) = done.of(OrderExecuted), done.of(PositionDecrease)
    assert (executed.secondary_order_type, decrease.order_type) == (1, OrderType.MARKET_DECREASE)
    assert gmx.usdc(gmx.account) > before + 990 * USDC
    (position,) = gmx.positions()
    assert position.size_usd == 5_000 * USD


def test_funding_is_earned_by_the_smaller_side_and_claimed(gmx: GmxLab) -> None:
    gmx.enter(is_long=False)  # there are more longs
    gmx.advance(DAY)
    (update,) = gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 5_000, is_long=False)).of(
        ClaimableFundingUpdated
    )
    before = gmx.usdc(gmx.account)
    claim = router.claim_funding_fees([gmx.market], [gmx.world.usdc], gmx.account)
    (claimed,) = gmx.decoded(gmx.act(claim)).of(FundingFeesClaimed)
    assert claimed.amount == update.delta > 0
    assert gmx.usdc(gmx.account) - before == claimed.amount
    (again,) = gmx.decoded(gmx.act(claim)).of(FundingFeesClaimed)
    assert again.amount == 0


def test_funding_and_borrowing_are_paid_from_the_collateral(gmx: GmxLab) -> None:
    gmx.enter()
    gmx.advance(DAY)
    (fees,) = gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 5_000)).of(PositionFeesCollected)
    assert fees.funding_fee_amount > 0
    assert fees.borrowing_fee_amount > 0
    (position,) = gmx.positions()
    paid = fees.total_cost_amount
    assert paid == fees.funding_fee_amount + fees.borrowing_fee_amount + fees.position_fee_amount
    assert abs(position.collateral - (994 * USDC - paid)) < 100  # price impact


def test_collateral_can_be_added_and_withdrawn_without_size(gmx: GmxLab) -> None:
    gmx.enter()
    gmx.execute(gmx.order(OrderType.MARKET_INCREASE, 0, collateral=500 * USDC))
    assert 1_493 * USDC < gmx.positions()[0].collateral <= 1_494 * USDC  # less funding
    before = gmx.usdc(gmx.account)
    gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 0, initial_collateral_delta_amount=700 * USDC))
    assert gmx.usdc(gmx.account) - before == 700 * USDC
    assert 793 * USDC < gmx.positions()[0].collateral <= 794 * USDC


def test_a_longs_profit_arrives_in_weth_unless_it_is_swapped(gmx: GmxLab) -> None:
    gmx.enter()
    before = gmx.world.balance("WETH", gmx.account)
    close = gmx.order(OrderType.MARKET_DECREASE, 10_000, decrease_swap_type=0)
    gmx.execute(close, gmx.world.price("WETH") * 110 / 100)
    got = gmx.world.balance("WETH", gmx.account) - before
    assert abs(Decimal(got).scaleb(-18) * gmx.world.price("WETH") * 110 / 100 - 1_000) < Decimal("0.01")


@pytest.mark.parametrize("symbol", ["WETH", "WBTC"])
@pytest.mark.parametrize("is_long", [True, False])
def test_the_market_owns_what_it_owes(gmx: GmxLab, symbol: str, is_long: bool) -> None:
    """Balances are those of the books: liquidity, collateral, and funding that was taken and not yet given."""
    market = gmx.gmx.markets[symbol]
    start = surplus(gmx, market, symbol)
    assert start == [0, 0]
    for factor in ("1.04", "0.97"):
        gmx.enter(5_000, market=market, is_long=is_long)
        gmx.advance(3_600)
        price = gmx.world.price(symbol) * Decimal(factor)
        gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 2_000, market=market, is_long=is_long), price)
        gmx.execute(gmx.order(OrderType.MARKET_DECREASE, 3_000, market=market, is_long=is_long), price)
        assert gmx.positions() == []
    in_usdc, in_token = surplus(gmx, market, symbol)
    assert in_token == 0
    if is_long:
        assert 0 < in_usdc < USDC  # paid, for those on the other side to claim
    else:
        assert -USDC < in_usdc < 0  # claimable, owed by the rest of the market, who never close
    assert gmx.usdc(gmx.gmx.order_vault) == gmx.world.balance("WETH", gmx.gmx.order_vault) == 0


def test_a_random_walk_loses_nobody_more_than_the_collateral(gmx: GmxLab) -> None:
    """Whatever the prices, times and orders: the books hold, and failures have names."""
    rng = random.Random(19)
    outcomes: Counter[str] = Counter()
    spent = 0
    start = gmx.usdc(gmx.account)
    for _ in range(30):
        gmx.world.set_feed("WETH", gmx.world.price("WETH") * Decimal(rng.randint(94, 106)) / 100)
        if rng.random() < 0.3:
            gmx.advance(rng.randint(1, 7 * DAY))
        is_long = rng.random() < 0.5
        if rng.random() < 0.5:
            spent += (collateral := rng.randint(1, 500) * USDC)
            size = rng.randint(1, 60_000)
            key = gmx.order(OrderType.MARKET_INCREASE, size, is_long=is_long, collateral=collateral)
        else:
            withdrawn = rng.choice([0, 0, 50 * USDC])
            held = {position.is_long: position.size_usd // USD for position in gmx.positions()}
            size = rng.choice([held.get(is_long, 0), rng.randint(1, 20_000)])
            key = gmx.order(
                OrderType.MARKET_DECREASE, size, is_long=is_long, initial_collateral_delta_amount=withdrawn
            )
        done = gmx.execute(key)
        for cancelled in done.of(OrderCancelled):
            refusal = refusal_of(cancelled.reason, cancelled.reason_bytes)
            assert refusal.arguments or refusal.name == "EmptyPosition", refusal
            outcomes[refusal.name] += 1
        outcomes["executed"] += len(done.of(OrderExecuted))
        for side in [position.is_long for position in gmx.positions()]:
            with contextlib.suppress(Reverted):
                gmx.keeper.liquidate(gmx.account, gmx.market, is_long=side)
                outcomes["liquidated"] += 1
        in_usdc, in_token = surplus(gmx, gmx.market, "WETH")
        assert in_token == 0
        assert abs(in_usdc) < 1_000 * USDC  # funding between the account and the rest of the market
        assert gmx.usdc(gmx.account) >= start - spent
        assert gmx.usdc(gmx.gmx.order_vault) == 0
    print(dict(outcomes))
    assert min(outcomes["executed"], outcomes["liquidated"], len(outcomes) - 2) > 0


def surplus(gmx: GmxLab, market: str, symbol: str) -> list[int]:
    """What a market holds beyond liquidity, collateral and claimable funding: USDC and its token."""
    usdc, token = gmx.world.usdc, gmx.world.address_of(symbol)
    owed = gmx.value("POOL_AMOUNT", market, usdc, types="aa")
    owed += gmx.value("CLAIMABLE_FUNDING_AMOUNT", market, usdc, types="aa")
    owed += sum(gmx.value("COLLATERAL_SUM", market, usdc, side, types="aab") for side in (True, False))
    held = gmx.world.balance("USDC", market), gmx.world.balance(symbol, market)
    return [held[0] - owed, held[1] - gmx.value("POOL_AMOUNT", market, token, types="aa")]


def units(price: Decimal) -> int:
    """A price of ETH in GMX's units."""
    return int(price.scaleb(12))


# ------------------------------------------------------------------------------- contracts


def test_the_contracts_fit_a_block_chains_limit() -> None:
    for path in sorted(GMX.glob("[A-Z]*.vy")):
        size = len(load(path.stem)["bytecode"]) // 2 - 1  # with the code of the deployment, which is not kept
        print(f"{path.stem}: {size} bytes")
        assert size < 24_576, path.stem


def test_keys_are_hashes_of_their_names() -> None:
    named = re.findall(r"^(\w+): constant\(bytes32\) = (0x\w+)$", (GMX / "keys.vy").read_text(), re.M)
    assert len(named) > 40
    for name, key in named:
        assert key == "0x" + data_key(name).hex()


def test_callback_selectors_are_those_of_the_interface() -> None:
    source = (GMX / "OrderHandler.vy").read_text()
    found = dict(re.findall(r"^AFTER_(\w+): constant\(bytes4\) = (0x\w+)$", source, re.M))
    outcomes = {"EXECUTION": "executed", "CANCELLATION": "cancelled", "FROZEN": "frozen"}
    assert {selector: outcomes[name] for name, selector in found.items()} == CALLBACK_SELECTORS
