"""What the paper twin of a live order would have got, and how far the live account drifted from it. Pure functions.

The twin trades on the same decision: the same side and quantity, at the quote that the checks used, with the fill
functions of the paper exchange. It fills at once and in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.money import ZERO
from maxxit.core.terms import BPS, OrderSide
from positions.twin.policy import TwinCosts
from trading.venues.paper import exchanged, worse_price


@dataclass(frozen=True, slots=True)
class TwinPrice:
    """What the twin got per token and paid for a quantity."""

    price: Decimal
    """USD."""
    cash: Decimal
    """USDC exchanged, positive, before the fee."""
    fee: Decimal
    """USDC."""


def twin_fill(quote: Decimal, symbol: str, side: str, quantity: Decimal, costs: TwinCosts) -> TwinPrice:
    """Return what the paper exchange would have filled.

    Args:
        quote: USD, of the decision; above zero.
        side: buy or sell.
        quantity: tokens, zero or positive.
        costs: of the venue.
    """
    price = worse_price(quote, symbol, side, Decimal(costs.slippage_bps) / BPS)
    cash, fee = exchanged(quantity, price, side, Decimal(costs.fee_bps) / BPS)
    return TwinPrice(price, cash, fee)


def price_drift(quote: Decimal, side: str, live: Decimal, twin: Decimal) -> float:
    """Return how much worse the live price was than the twin's, in basis points of the quote; negative: better."""
    worse = live - twin if side == OrderSide.BUY else twin - live
    return float(worse / quote * BPS)


def fee_drift(value: Decimal, live: Decimal, twin: Decimal) -> float:
    """Return how much more fee was paid live than by the twin, in basis points of `value` (USD, above zero)."""
    return float((live - twin) / value * BPS)


@dataclass(frozen=True, slots=True)
class Leg:
    """One order of a position, as the live account and the twin traded it."""

    ordered: Decimal
    """Tokens."""
    filled: Decimal
    """Tokens that the live account got."""
    live_cash: Decimal
    """USDC, positive."""
    live_fee: Decimal
    quote: Decimal
    """USD."""


@dataclass(frozen=True, slots=True)
class TradeDrift:
    """The result of one closed position, after venue fees and before what the platform takes, USDC."""

    live: Decimal
    twin: Decimal
    bps: float
    """Live worse than the twin, in basis points of the entry's value."""


def trade_drift(
    symbol: str, side: str, entry: Leg, exits: Sequence[Leg], costs: TwinCosts
) -> TradeDrift | None:
    """Compare a closed position with the twin's; None where nothing was sold.

    The twin holds as many tokens as the live account sold. It is out with the first closing order that it was sent: one
    that the live account got refused or only part of has closed the twin's position.

    Args:
        side: of the entry, buy or sell.
        exits: closing orders, oldest first.
    """
    sold = sum((leg.filled for leg in exits), ZERO)
    if sold <= ZERO or entry.filled <= ZERO:
        return None
    sign, out = (1, OrderSide.SELL) if side == OrderSide.BUY else (-1, OrderSide.BUY)
    part = sold / entry.filled
    live_fees = entry.live_fee * part + sum((leg.live_fee for leg in exits), ZERO)
    live = sign * (sum((leg.live_cash for leg in exits), ZERO) - entry.live_cash * part) - live_fees
    bought = twin_fill(entry.quote, symbol, side, sold, costs)
    twin, left = -sign * bought.cash - bought.fee, sold
    for leg in exits:
        quantity = min(left, leg.ordered)
        filled = twin_fill(leg.quote, symbol, out, quantity, costs)
        twin += sign * filled.cash - filled.fee
        left -= quantity
    return TradeDrift(live, twin, float((twin - live) / (entry.quote * sold) * BPS))
