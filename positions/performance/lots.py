"""Match fills of one deployment and token first in, first out, into closed lots (round trips). Pure.

A buy without short lots opens a long lot, a sell without long lots a short one; an opposite fill closes the oldest lots
first, in part where it is smaller. Cash and fee of a fill that is split are divided by quantity and rounded to USDC
base units; the last part gets the remainder. So the sums are exact: all gains plus the cash in open lots is the cash of
all fills after fees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from maxxit.core.money import ZERO, exactly, usdc
from maxxit.core.terms import OrderSide, Side


@dataclass(frozen=True, slots=True)
class LotFill:
    """One execution."""

    id: int
    at: datetime
    side: str
    """`buy` or `sell`."""
    quantity: Decimal
    """Tokens, positive."""
    cash: Decimal
    """Exchanged before the fee, USDC, positive."""
    fee: Decimal = ZERO
    """USDC."""
    ref: str = ""
    """Transaction or order at the venue, for the export."""


@dataclass(slots=True)
class OpenLot:
    """What is left of a fill that opened a position."""

    fill: LotFill
    quantity: Decimal
    """Tokens left."""
    cash: Decimal
    """Part of the fill's cash for them, USDC: paid for a long lot, received for a short one."""
    fee: Decimal
    """Part of the fill's fee for them, USDC."""

    @property
    def side(self) -> Side:
        """The direction of the lot."""
        return Side.LONG if self.fill.side == OrderSide.BUY else Side.SHORT

    @property
    def flow(self) -> Decimal:
        """Cash received (+) or paid (-) for what is left, after its fee, USDC."""
        with exactly():
            return (self.cash if self.side is Side.SHORT else -self.cash) - self.fee

    def take(self, quantity: Decimal) -> tuple[Decimal, Decimal]:
        """Remove `quantity` tokens of the lot; return their part of cash and fee."""
        with exactly():
            if quantity == self.quantity:
                cash, fee = self.cash, self.fee
            else:
                cash = usdc(self.cash * quantity / self.quantity)
                fee = usdc(self.fee * quantity / self.quantity)
            self.quantity, self.cash, self.fee = self.quantity - quantity, self.cash - cash, self.fee - fee
        return cash, fee


@dataclass(frozen=True, slots=True)
class ClosedLot:
    """A quantity that was bought and sold. Amounts in USDC."""

    side: Side
    opening: LotFill
    closing: LotFill
    quantity: Decimal
    """Tokens."""
    proceeds: Decimal
    """Received for the sale, before fees."""
    cost: Decimal
    """Paid for the purchase, before fees."""
    fees: Decimal
    """Parts of the fees of both fills."""

    @property
    def acquired(self) -> datetime:
        """When the tokens were bought: for a short lot, when it was closed."""
        return (self.opening if self.side is Side.LONG else self.closing).at

    @property
    def sold(self) -> datetime:
        """When the tokens were sold: for a short lot, when it was opened."""
        return (self.closing if self.side is Side.LONG else self.opening).at

    @property
    def gain(self) -> Decimal:
        """Proceeds less cost and fees."""
        with exactly():
            return self.proceeds - self.cost - self.fees


@dataclass(slots=True)
class Lots:
    """The open lots of one deployment and token, oldest first; memory grows with them only."""

    open: deque[OpenLot] = field(default_factory=deque)
    _newest: datetime | None = None

    def apply(self, fill: LotFill) -> list[ClosedLot]:
        """Book the next fill and return the lots it closes, oldest first.

        Raises:
            ValueError: the fill is older than the last one, or its quantity is not positive.
        """
        if self._newest and fill.at < self._newest:
            raise ValueError(f"fill {fill.id} of {fill.at:%Y-%m-%d %H:%M:%S} is older than the one before it")
        if fill.quantity <= 0:
            raise ValueError(f"fill {fill.id} has quantity {fill.quantity}: it must be positive")
        self._newest = fill.at
        rest, closed = OpenLot(fill, fill.quantity, fill.cash, fill.fee), []
        while rest.quantity and self.open and self.open[0].side is not rest.side:
            oldest = self.open[0]
            quantity = min(oldest.quantity, rest.quantity)
            (opened_cash, opened_fee), (closed_cash, closed_fee) = oldest.take(quantity), rest.take(quantity)
            long = oldest.side is Side.LONG
            with exactly():
                fees = opened_fee + closed_fee
            closed.append(
                ClosedLot(
                    side=oldest.side,
                    opening=oldest.fill,
                    closing=fill,
                    quantity=quantity,
                    proceeds=closed_cash if long else opened_cash,
                    cost=opened_cash if long else closed_cash,
                    fees=fees,
                )
            )
            if not oldest.quantity:
                self.open.popleft()
        if rest.quantity:
            self.open.append(rest)
        return closed


def closed_lots(fills: Iterable[LotFill], lots: Lots | None = None) -> Iterator[ClosedLot]:
    """Yield the closed lots of fills in order of time. Pass `lots` to read the open ones afterwards."""
    lots = Lots() if lots is None else lots
    for fill in fills:
        yield from lots.apply(fill)
