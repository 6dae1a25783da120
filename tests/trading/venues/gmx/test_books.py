"""What the ledger books of GMX's events equals the chain to the base unit, over the recorded steps."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Retryable
from maxxit.evm.codec import encode_call
from tests.trading.venues.gmx.recorded import ADDRESSES, SAFE, steps
from trading.venues.gmx import books, calls
from trading.venues.gmx.books import Account, Cause, Execution
from trading.venues.gmx.calls import OrderState, OrderType, PositionState
from trading.venues.gmx.events import (
    Decoded,
    OrderCancelled,
    OrderCreated,
    OrderExecuted,
    PositionDecrease,
    PositionIncrease,
    decode_logs,
)
from trading.venues.gmx.units import USD_PER_USDC_UNIT, price_of, price_units, size_of, usd

D = Decimal
ACCOUNT = Account(SAFE, ADDRESSES["usdc"], ADDRESSES["OrderVault"])
UNIT = D("0.000001")


def decoded(number: int) -> Decoded:
    return decode_logs(steps()[number]["logs"], ADDRESSES["EventEmitter"])


class ChainOf:
    """The account as the recorded logs make it: the Safe's USDC, orders and positions."""

    def __init__(self) -> None:
        self.usdc = 0
        self.orders: dict[str, OrderState] = {}
        self.positions: dict[str, PositionState] = {}

    def apply(self, now: Decoded) -> None:
        for transfer in now.transfers:
            if transfer.token == ACCOUNT.usdc:
                self.usdc += transfer.amount * ((transfer.target == SAFE) - (transfer.source == SAFE))
        for one in now.of(OrderCreated):
            self.orders[one.key] = OrderState(
                bytes.fromhex(one.key[2:]), one.account, one.market, one.initial_collateral_token,
                OrderType(one.order_type), one.size_delta_usd, one.initial_collateral_delta_amount, one.trigger_price,
                one.execution_fee, one.updated_at_time, one.is_long, False, one.auto_cancel,
            )  # fmt: skip
        for key in [one.key for one in now.of(OrderExecuted)] + [one.key for one in now.of(OrderCancelled)]:
            self.orders.pop(key, None)
        changes: list[PositionIncrease | PositionDecrease] = [
            *now.of(PositionIncrease),
            *now.of(PositionDecrease),
        ]
        for change in changes:
            self.positions[change.position_key] = PositionState(
                change.account, change.market, change.collateral_token, change.size_in_usd, change.size_in_tokens,
                change.collateral_amount, change.is_long,
            )  # fmt: skip

    @property
    def cash(self) -> Decimal:
        return books.cash_of(self.usdc, self.orders.values(), self.positions.values())

    @property
    def tokens(self) -> Decimal:
        return books.tokens_of(self.positions.values(), 18)


def recorded() -> Iterator[tuple[str, ChainOf, list[Execution]]]:
    chain = ChainOf()
    for number, step in enumerate(steps()):
        now = decoded(number)
        chain.apply(now)
        yield step["step"], chain, books.executions(now, ACCOUNT)


def test_the_ledger_equals_the_chain_after_each_recorded_step() -> None:
    cash = tokens = D(0)
    executed = 0
    for step, chain, found in recorded():
        executed += len(found)
        cash += sum((one.cash_change for one in found), D(0))
        tokens += sum((D(one.tokens if one.buys else -one.tokens).scaleb(-18) for one in found), D(0))
        assert (cash, tokens) == (chain.cash, chain.tokens), step
    assert executed == 6
    assert tokens == 0
    assert cash == D(chain.usdc).scaleb(-6), (
        "all positions are closed: what was booked is what the Safe received"
    )


def test_the_recorded_close_at_a_profit_is_booked_as_gmx_computed_it() -> None:
    [one] = books.executions(decoded(4), ACCOUNT)

    assert one.output == 1_339_999_337
    assert (one.fee, one.funding, one.borrowing) == (D(4), D("0.000571"), D(0))
    # size + profit − price impact of 90.95 base units, each rounded against the position as GMX does
    assert one.cash == D(10_000) + D("349.999999") - D("0.000091")
    assert one.cash == one.output * UNIT + D("4.000571") - D(994) + D(10_000)


def test_the_recorded_close_of_a_short_at_a_loss() -> None:
    [one] = books.executions(decoded(14), ACCOUNT)

    assert (one.buys, one.increases, one.cause) == (True, False, Cause.ORDER)
    assert one.output == 744_999_962
    assert one.cash == D(5_000) + D("250.000001") + D("0.000037")
    assert one.fee == D(3)


def test_the_recorded_liquidation_has_its_fee_and_its_cause() -> None:
    [one] = books.executions(decoded(19), ACCOUNT)

    assert one.cause == Cause.LIQUIDATION
    assert one.fee == D(24)
    assert (one.output, one.funding) == (9_999_359, D("0.000571"))


def test_a_fills_cash_is_its_quantity_times_its_price() -> None:
    for _, _, found in recorded():
        for one in found:
            assert abs(one.price(18) * D(one.tokens).scaleb(-18) - one.cash) <= UNIT


def test_unused_execution_fees_are_the_safes() -> None:
    assert books.refunds(decoded(1), SAFE) == 6_359_824_974_518_775
    assert books.refunds(decoded(4), SAFE) == 5_966_609_971_766_270 + 8_238_299_987_668_100
    assert books.refunds(decoded(4), ADDRESSES["market"]) == 0


def test_what_belongs_to_another_account_is_not_booked() -> None:
    other = replace(ACCOUNT, safe=ADDRESSES["market"])

    assert books.executions(decoded(4), other) == []


def test_a_position_with_another_collateral_is_refused() -> None:
    with pytest.raises(Retryable, match="not USDC"):
        books.executions(decoded(4), replace(ACCOUNT, usdc=ADDRESSES["wnt"]))


def test_a_change_whose_order_was_not_executed_is_refused() -> None:
    now = decoded(4)
    without = replace(now, events=tuple(one for one in now.events if one.name != "OrderExecuted"))
    with pytest.raises(Retryable, match="was not executed"):
        books.executions(without, ACCOUNT)


def test_the_order_that_deleveraged_is_not_one_of_ours() -> None:
    now = decoded(14)
    events = tuple(
        replace(one, value=replace(one.value, secondary_order_type=1)) if one.name == "OrderExecuted" else one
        for one in now.events
    )
    [found] = books.executions(replace(now, events=events), ACCOUNT)

    assert found.cause == Cause.DELEVERAGING


# --- units ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.integers(0, 10**39), st.integers(0, 10**39))
def test_sizes_that_are_cut_to_the_ledgers_precision_add_up(amount: int, first: int, second: int) -> None:
    assert usd(amount * USD_PER_USDC_UNIT) == D(amount).scaleb(-6)
    assert usd(first) + (usd(first + second) - usd(first)) == usd(first + second)


@given(st.decimals("0.000001", "1000000", places=6), st.sampled_from([6, 8, 18]))
def test_prices_read_back(price: Decimal, decimals: int) -> None:
    assert price_of(price_units(price, decimals, up=False), decimals) == price
    assert price_units(D(1) / 3, decimals, up=True) - price_units(D(1) / 3, decimals, up=False) == 1


def test_sizes_are_whole_base_units_of_usdc() -> None:
    assert size_of(D("1000.0000019")) == 1_000_000_001 * USD_PER_USDC_UNIT


def test_the_reader_is_decoded_as_its_abi_says() -> None:
    from eth_abi.abi import encode

    position = (
        (SAFE, ADDRESSES["market"], ADDRESSES["usdc"]),
        (10**34, 3 * 10**18, 994_000_000, -5, *range(6)),
        (True,),
    )
    order: tuple[Any, ...] = (
        (SAFE,) * 5 + (ADDRESSES["market"], ADDRESSES["usdc"], []),
        (6, 1, 10**34, 7, 2_900, 2_880, 10**16, 300_000, 0, 1_795_970_308, 0, 0), (True, False, True, True), [],
    )  # fmt: skip
    [found] = calls.decode_positions(encode([f"{calls.POSITION}[]"], [[position]]))
    [stop] = calls.decode_orders(encode([f"(bytes32,{calls.ORDER})[]"], [[(b"\x01" * 32, order)]]))

    assert (found.size_usd, found.size_tokens, found.collateral, found.is_long) == (
        10**34,
        3 * 10**18,
        994_000_000,
        True,
    )
    assert (stop.order_type, stop.collateral, stop.trigger_price, stop.updated_at) == (
        OrderType.STOP_LOSS_DECREASE, 7, 2_900, 1_795_970_308,
    )  # fmt: skip
    assert (stop.is_long, stop.frozen, stop.auto_cancel) == (True, True, True)
    assert calls.account_orders(SAFE, SAFE)[:4] == encode_call(
        "getAccountOrders(address,address,uint256,uint256)", SAFE, SAFE, 0, 100
    )[:4]  # fmt: skip
