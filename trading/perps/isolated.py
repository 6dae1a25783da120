"""A perpetual future with isolated margin: equity, liquidation price, margin ratio, funding, and life on a price path.

Pure functions. A position has tokens (negative for a short) and cash of its own: its margin, less what was paid for the
tokens (plus what was received for a short's), plus funding. Its equity is `cash + tokens × price`, as ADR 30 has it of
a whole account. It is liquidated where the equity is not above the maintenance margin, a fraction of its value.

Source of the rules: Hyperliquid's documents, https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations
(maintenance margin is half of the initial margin at the market's highest leverage; a backstop liquidation takes the
position with all of its isolated margin). `tests/trading/perps/test_isolated.py` holds the price to the example of
their API's documents.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from maxxit.core.money import USDC_UNIT, ZERO, exactly


@dataclass(frozen=True, slots=True)
class Isolated:
    """A position with its own margin."""

    tokens: Decimal
    """Negative for a short."""
    cash: Decimal
    """USDC; of a long negative where its leverage is above 1."""

    def equity(self, price: Decimal) -> Decimal:
        """Return the margin that is left at `price` (USD), in USDC."""
        with exactly():
            return self.cash + self.tokens * price


FLAT = Isolated(ZERO, ZERO)


def maintenance(max_leverage: Decimal) -> Decimal:
    """Return the maintenance margin as a fraction of a position's value: half of the least initial margin."""
    return 1 / (2 * max_leverage)


def initial_margin(notional: Decimal, leverage: Decimal) -> Decimal:
    """Return the margin of an entry of `notional` USDC, rounded up to the USDC base unit."""
    return (notional / leverage).quantize(USDC_UNIT, ROUND_CEILING)


def is_liquidated(held: Isolated, price: Decimal, fraction: Decimal) -> bool:
    """Return whether the equity at `price` (USD) is not above the maintenance margin, a `fraction` of the value."""
    if not held.tokens:
        return False
    with exactly():
        return held.equity(price) <= fraction * abs(held.tokens) * price


def liquidation_price(held: Isolated, fraction: Decimal) -> Decimal | None:
    """Return the price in USD at which a position is liquidated; None for one that no price above zero liquidates.

    It solves cash + tokens × p = fraction × |tokens| × p.
    """
    if not held.tokens:
        return None
    price = -held.cash / (held.tokens - fraction * abs(held.tokens))
    return price if price > 0 else None


def margin_ratio(sign: int, price: Decimal, liquidation: Decimal, fraction: Decimal) -> Decimal | None:
    """Return maintenance margin / equity at `price`, a fraction that is 1 at the liquidation price.

    None where nothing is left: at and beyond the price at which the whole margin is lost.

    Args:
        sign: 1 for a long, -1 for a short.
        price, liquidation: USD.
        fraction: maintenance margin as a fraction of the value.
    """
    left = fraction * liquidation + sign * (price - liquidation)
    return fraction * price / left if left > 0 else None


def room(sign: int, price: Decimal, liquidation: Decimal, entry: Decimal, leverage: Decimal) -> Decimal:
    """Return what a position can still lose before it is liquidated, as a fraction of its initial margin.

    Zero at the liquidation price and negative beyond it; above 1 with a profit, or with margin that was added.

    Args:
        sign: 1 for a long, -1 for a short.
        price, liquidation, entry: USD.
        leverage: of the entry; its initial margin is 1 / leverage of its value.
    """
    return sign * (price - liquidation) * leverage / entry


def bankruptcy_price(held: Isolated) -> Decimal:
    """Return the price in USD at which the whole margin is lost, the one at which a liquidation is booked."""
    return -held.cash / held.tokens


def funding(held: Isolated, price: Decimal, rate: Decimal) -> Decimal:
    """Return what a position receives for funding at `price` (USD), in USDC; negative: it pays.

    Longs pay shorts where `rate`, a fraction of the value, is positive. Rounded against the position, which never pays
    more than its equity.
    """
    with exactly():
        amount = (-rate * held.tokens * price).quantize(USDC_UNIT, ROUND_FLOOR)
        return max(amount, -max(held.equity(price), ZERO).quantize(USDC_UNIT, ROUND_FLOOR))


def traded(held: Isolated, tokens: Decimal, cash: Decimal, leverage: Decimal) -> Isolated:
    """Return the position after a trade.

    What enlarges it brings its margin along; what reduces it takes the same fraction of its cash out, rounded against
    what stays; what is left of the trade opens the other side.

    Args:
        tokens: bought, or negative: sold; not zero.
        cash: USDC that was exchanged, positive, without fees.
        leverage: of the trade, at least 1.
    """
    sign = 1 if tokens > 0 else -1
    if held.tokens * tokens >= 0:
        with exactly():
            return Isolated(held.tokens + tokens, held.cash + initial_margin(cash, leverage) - sign * cash)
    size, closed = abs(held.tokens), min(abs(tokens), abs(held.tokens))
    if closed < size:
        kept = (held.cash * (size - closed) / size).quantize(USDC_UNIT, ROUND_FLOOR)
        return Isolated(held.tokens + tokens, kept)
    rest = abs(tokens) - closed
    return (
        traded(FLAT, sign * rest, (cash * rest / abs(tokens)).quantize(USDC_UNIT), leverage) if rest else FLAT
    )


@dataclass(frozen=True, slots=True)
class Moment:
    """What the price did up to a moment, since the one before."""

    at: datetime
    low: Decimal
    high: Decimal
    close: Decimal
    """USD, at the moment."""
    rate: Decimal = ZERO
    """The funding rate that is charged at the moment, a fraction of the value; zero for none."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What became of a position on a price path."""

    held: Isolated
    """After funding; of a liquidated position as it was when that happened."""
    paid: tuple[tuple[datetime, Decimal], ...]
    """When, and USDC: negative was paid."""
    liquidated_at: datetime | None


def live(held: Isolated, path: Iterable[Moment], fraction: Decimal) -> Lived:
    """Take a position along a price path: charge funding, and stop where it is liquidated.

    Worst first: the worst price of a span is judged before anything else that happened in it, so that a bar which
    reaches the liquidation price liquidates, even if it reached a stop as well and ended far from both. A liquidation
    takes the whole margin, which is never better than any stop before it.
    """
    paid: list[tuple[datetime, Decimal]] = []
    for one in path:
        if is_liquidated(held, one.low if held.tokens > 0 else one.high, fraction):
            return Lived(held, tuple(paid), one.at)
        if one.rate:
            amount = funding(held, one.close, one.rate)
            paid.append((one.at, amount))
            held = replace(held, cash=held.cash + amount)
            if is_liquidated(held, one.close, fraction):
                return Lived(held, tuple(paid), one.at)
    return Lived(held, tuple(paid), None)
