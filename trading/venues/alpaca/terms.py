"""The body of an order for Alpaca: market or limit, alone or as a bracket whose legs Alpaca keeps.

Every number is a string made from a Decimal. A stock's entry takes its stop and its target along: both as a bracket,
one alone as OTO. The levels are those of the request, which follow the agent's exit preset or its signal; where it has
none, the percentages of the venue's options apply. Crypto takes simple orders only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import structlog

from maxxit.core.errors import Misconfigured
from maxxit.core.money import plain
from maxxit.core.terms import BPS, OrderSide, Purpose
from trading.venues.base import Request

log = structlog.get_logger(__name__)

CENT, SUB_CENT, COIN_TICK = Decimal("0.01"), Decimal("0.0001"), Decimal("1e-9")
"""Ticks of a stock from 1 USD on, of one below, and of a coin."""


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """How orders are sent, from the options of the venue."""

    use_bracket_orders: bool = True
    take_profit_pct: Decimal = Decimal(3)
    """Percent from the quote, of an entry that comes without a target; zero for none."""
    stop_loss_pct: Decimal = Decimal("1.5")
    """The same of one without a stop."""
    entry_limit_bps: Decimal | None = None
    """Entries are limit orders at most so far from the quote, in basis points; None: market orders."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "OrderOptions":
        """Return the options from numbers of the YAML file. Raises TypeError for an unknown one."""
        exact: dict[str, Any] = {
            name: Decimal(str(value))
            if isinstance(value, int | float) and not isinstance(value, bool)
            else value
            for name, value in options.items()
        }
        return cls(**exact)

    def __post_init__(self) -> None:
        if not 0 <= self.stop_loss_pct < 100 or self.take_profit_pct < 0:
            raise Misconfigured(
                "venue alpaca: stop_loss_pct is 0 to 99, take_profit_pct at least 0 (percent)"
            )
        if self.entry_limit_bps is not None and not 0 <= self.entry_limit_bps < BPS:
            raise Misconfigured("venue alpaca: entry_limit_bps is 0 to 9999 (basis points)")


@dataclass(frozen=True, slots=True)
class Terms:
    """An order as it will be sent."""

    body: str
    rests_exits: bool
    """Alpaca keeps legs for it."""
    note: str = ""
    """Why a stock's entry is a simple order although brackets are in use."""


def terms_of(request: Request, symbol: str, options: OrderOptions, *, stock: bool) -> Terms:
    """Return the JSON body of an order, and whether Alpaca keeps exits with it.

    A simple stock order is a day order, as fractions of a share require; a bracket is good till canceled, so that its
    legs outlast the day. A crypto order is immediate-or-cancel at the market, good till canceled with a limit.
    """
    entry = request.purpose == Purpose.OPEN
    members: dict[str, Any] = {
        "symbol": symbol,
        "qty": plain(request.quantity),
        "side": str(request.side),
        "type": "market",
        "time_in_force": "day" if stock else "ioc",
        "client_order_id": request.client_order_id,
    }
    if entry and options.entry_limit_bps is not None:
        members |= {"type": "limit", "limit_price": _price(_limit(request, options.entry_limit_bps), stock)}
        members["time_in_force"] = "day" if stock else "gtc"
    note = ""
    if stock and entry and options.use_bracket_orders:
        stop, target, note = _levels(request, options)
        if stop or target:
            members |= {"time_in_force": "gtc", "order_class": "bracket" if stop and target else "oto"}
            members |= _legs(stop, target)
        else:
            log.warning("bracket_left_out", venue="alpaca", order=request.client_order_id, reason=note)
    return Terms(json.dumps(members), "order_class" in members, note)


def _levels(request: Request, options: OrderOptions) -> tuple[Decimal | None, Decimal | None, str]:
    """Return stop and target of an entry, USD, or why it has to be a simple order."""
    if request.quantity % 1:
        return None, None, f"{plain(request.quantity)} shares: a bracket takes whole shares only"
    price, sign = request.reference_price, 1 if request.side == OrderSide.BUY else -1
    stop = request.stop or _away(price, -sign * options.stop_loss_pct)
    target = request.target or _away(price, sign * options.take_profit_pct)
    if not price.is_finite() or price <= 0:
        return None, None, "no reliable price"
    beyond = [
        level for level in (stop and sign * (price - stop), target and sign * (target - price)) if level
    ]
    if any(distance < CENT for distance in beyond):
        return None, None, "no reliable price: stop or target is not beyond the quote"
    return stop, target, "" if stop or target else "neither stop nor target"


def _away(price: Decimal, pct: Decimal) -> Decimal | None:
    return price * (1 + pct / 100) if pct else None


def _legs(stop: Decimal | None, target: Decimal | None) -> dict[str, Any]:
    legs: dict[str, Any] = {}
    if target:
        legs["take_profit"] = {"limit_price": _price(target, stock=True)}
    if stop:
        legs["stop_loss"] = {"stop_price": _price(stop, stock=True)}
    return legs


def _limit(request: Request, bps: Decimal) -> Decimal:
    sign = 1 if request.side == OrderSide.BUY else -1
    return request.reference_price * (1 + sign * bps / BPS)


def _price(usd: Decimal, stock: bool) -> str:
    """Return a price in ticks that Alpaca takes."""
    tick = COIN_TICK if not stock else CENT if usd >= 1 else SUB_CENT
    return plain(usd.quantize(tick, ROUND_HALF_EVEN))
