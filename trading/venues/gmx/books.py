"""Turn GMX's events into what the ledger books, so that it equals the chain to the base unit (ADR 30). Pure functions.

The cash of an account is its USDC, what the vault holds for its orders, and of each position its collateral less its
size for a long, plus its size for a short. Tokens are the positions' sizes in tokens, negative for a short. An
increase moves cash by its size; the cash of a decrease is what makes the ledger follow the chain: USDC received and
collateral given up. It contains profit or loss and price impact. Fees, funding and borrowing are lines of their own.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from maxxit.core.errors import Retryable
from maxxit.core.money import ZERO
from trading.venues.gmx.calls import OrderState, OrderType, PositionState
from trading.venues.gmx.events import (
    CollateralClaimed,
    Decoded,
    ExecutionFeeRefund,
    FundingFeesClaimed,
    KeeperExecutionFee,
    OrderExecuted,
    PositionDecrease,
    PositionFeesCollected,
    PositionIncrease,
)
from trading.venues.gmx.units import COLUMN_UNIT, usd
from trading.venues.safe.units import USDC_DECIMALS, whole

INCREASES = frozenset({OrderType.MARKET_INCREASE, OrderType.LIMIT_INCREASE, OrderType.STOP_INCREASE})
DELEVERAGING = 1
"""secondaryOrderType of automatic deleveraging."""


class Cause(StrEnum):
    """Why a position changed."""

    ORDER = "order"
    LIQUIDATION = "liquidation"
    DELEVERAGING = "deleveraging"


@dataclass(frozen=True, slots=True)
class Execution:
    """One increase or decrease of a position. Amounts in whole units."""

    order_key: str
    market: str
    is_long: bool
    increases: bool
    cause: Cause
    tokens: int
    """Base units of the index token, positive."""
    cash: Decimal
    """USDC that the ledger exchanges for the tokens, before fees; it includes price impact, profit and loss."""
    fee: Decimal
    """USDC: position fee, and the fee of a liquidation."""
    funding: Decimal
    """USDC that was paid for funding."""
    borrowing: Decimal
    """USDC that was paid for borrowing."""
    output: int
    """USDC in base units that the Safe received."""
    index: int
    """Of the log in its block."""

    @property
    def buys(self) -> bool:
        """Whether tokens are bought: a long that grows, or a short that shrinks."""
        return self.is_long == self.increases

    @property
    def cash_change(self) -> Decimal:
        """What it changes in the account's cash, everything included."""
        return (-self.cash if self.buys else self.cash) - self.fee - self.funding - self.borrowing

    def price(self, decimals: int) -> Decimal:
        """Return USD per token at the ledger's precision."""
        return (self.cash / whole(self.tokens, decimals)).quantize(COLUMN_UNIT)


@dataclass(frozen=True, slots=True)
class Account:
    """Where a transaction's money can be: whose it is, in which token, and GMX's vault."""

    safe: str
    usdc: str
    vault: str


def executions(decoded: Decoded, account: Account) -> list[Execution]:
    """Return the increases and decreases of an account's positions in one transaction.

    Raises Retryable for a position whose collateral is not USDC: our module opens none.
    """
    return [
        _execution(decoded, account, change, index, end)
        for change, index, end in _changes(decoded, account.safe)
    ]


def _changes(decoded: Decoded, safe: str) -> Iterator[tuple[PositionIncrease | PositionDecrease, int, int]]:
    """Yield each change of the account's positions, with its log and the log at which its order had been executed."""
    ends = {
        event.value.key: event.index for event in decoded.events if isinstance(event.value, OrderExecuted)
    }
    for event in decoded.events:
        change = event.value
        if isinstance(change, PositionIncrease | PositionDecrease) and change.account == safe:
            if change.order_key not in ends:
                raise Retryable(f"the order {change.order_key} changed a position and was not executed")
            yield change, event.index, ends[change.order_key]


def _execution(
    decoded: Decoded, account: Account, change: PositionIncrease | PositionDecrease, index: int, end: int
) -> Execution:
    if change.collateral_token != account.usdc:
        raise Retryable(
            f"the collateral of position {change.position_key} is {change.collateral_token}, not USDC"
        )
    increases = isinstance(change, PositionIncrease)
    fees = _fees_of(decoded, change.order_key)
    funding, borrowing, total = (
        whole(amount, USDC_DECIMALS)
        for amount in (
            (fees.funding_fee_amount, fees.borrowing_fee_amount, fees.total_cost_amount)
            if fees
            else (0, 0, 0)
        )
    )
    size = _size_change(change, increases=increases)
    output = 0 if increases else _received(decoded, account, index, end)
    if increases:
        paid = _paid_in(decoded, account, change, total)
        moved = whole(change.collateral_delta_amount, USDC_DECIMALS) - paid
    else:
        moved = whole(output - change.collateral_delta_amount, USDC_DECIMALS)
    cash_change = moved + (-size if change.is_long == increases else size)
    signed = cash_change + total
    return Execution(
        order_key=change.order_key,
        market=change.market,
        is_long=change.is_long,
        increases=increases,
        cause=_cause_of(decoded, change),
        tokens=change.size_delta_in_tokens,
        cash=-signed if change.is_long == increases else signed,
        fee=total - funding - borrowing,
        funding=funding,
        borrowing=borrowing,
        output=output,
        index=index,
    )


def _size_change(change: PositionIncrease | PositionDecrease, *, increases: bool) -> Decimal:
    """Return by how much the position's size in USD changed, as the ledger keeps it: positive."""
    other = (
        change.size_in_usd - change.size_delta_usd
        if increases
        else change.size_in_usd + change.size_delta_usd
    )
    return abs(usd(change.size_in_usd) - usd(other))


def _fees_of(decoded: Decoded, order_key: str) -> PositionFeesCollected | None:
    """Return the fees that an order paid; None where it could pay none, as in an insolvent liquidation."""
    return next((one for one in decoded.of(PositionFeesCollected) if one.order_key == order_key), None)


def _received(decoded: Decoded, account: Account, start: int, end: int) -> int:
    """Return the USDC that a decrease sent to the Safe, in base units: between its event and its order's."""
    return sum(
        one.amount
        for one in decoded.transfers
        if one.token == account.usdc and one.target == account.safe and start < one.index < end
    )


def _paid_in(
    decoded: Decoded, account: Account, change: PositionIncrease | PositionDecrease, total: Decimal
) -> Decimal:
    """Return the USDC that the vault paid for an increase."""
    paid = [
        one.amount
        for one in decoded.transfers
        if one.token == account.usdc and one.source == account.vault and one.target == change.market
    ]
    if len(paid) == 1:
        return whole(paid[0], USDC_DECIMALS)
    return whole(change.collateral_delta_amount, USDC_DECIMALS) + total


def _cause_of(decoded: Decoded, change: PositionIncrease | PositionDecrease) -> Cause:
    if change.order_type == OrderType.LIQUIDATION:
        return Cause.LIQUIDATION
    secondary = [one.secondary_order_type for one in decoded.of(OrderExecuted) if one.key == change.order_key]
    return Cause.DELEVERAGING if DELEVERAGING in secondary else Cause.ORDER


def refunds(decoded: Decoded, safe: str) -> int:
    """Return the wei of execution fees that a transaction sent to the Safe.

    They are the unused part, and all of the fee of an order that the Safe itself cancelled: GMX pays it as the keeper.
    """
    unused = sum(one.refund_fee_amount for one in decoded.of(ExecutionFeeRefund) if one.receiver == safe)
    return unused + sum(
        one.execution_fee_amount for one in decoded.of(KeeperExecutionFee) if one.keeper == safe
    )


def claims(decoded: Decoded, account: Account) -> list[FundingFeesClaimed | CollateralClaimed]:
    """Return the funding and the collateral that the Safe received by claiming, in whatever token."""
    claimed: list[FundingFeesClaimed | CollateralClaimed] = [
        *decoded.of(FundingFeesClaimed),
        *decoded.of(CollateralClaimed),
    ]
    return [one for one in claimed if one.receiver == account.safe]


def tokens_received(decoded: Decoded, account: Account, markets: Collection[str]) -> dict[str, int]:
    """Return token -> base units that GMX's markets sent to the Safe in other tokens than USDC.

    Funding that is claimed in them, and profits whose swap to USDC failed.
    """
    received: dict[str, int] = {}
    for one in decoded.transfers:
        if one.target == account.safe and one.source in markets and one.token != account.usdc:
            received[one.token] = received.get(one.token, 0) + one.amount
    return received


def cash_of(usdc: int, orders: Iterable[OrderState], positions: Iterable[PositionState]) -> Decimal:
    """Return an account's cash in USDC.

    Args:
        usdc: base units in the Safe.
        orders: of the account; those that increase hold collateral in the vault.
        positions: of the account.
    """
    waiting = sum(order.collateral for order in orders if order.order_type in INCREASES)
    cash = whole(usdc + waiting, USDC_DECIMALS)
    for position in positions:
        size = usd(position.size_usd)
        cash += whole(position.collateral, USDC_DECIMALS) + (-size if position.is_long else size)
    return cash


def tokens_of(positions: Iterable[PositionState], decimals: int) -> Decimal:
    """Return the tokens of the positions in one market, whole units; a short is negative."""
    total = sum(one.size_tokens if one.is_long else -one.size_tokens for one in positions)
    return whole(total, decimals) if total else ZERO
