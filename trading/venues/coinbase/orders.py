"""Orders in Coinbase's words: the body that is sent, and the report that follows from an order and its fills.

An entry is `sor_limit_ioc`: it fills at once at the bound or better, and what does not fill is canceled, so that no
entry is far from the price that was decided on. An exit is `market_market_ioc`: a stop that waits for a price costs its
owner more than slippage.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any
from uuid import UUID, uuid5

import structlog

from maxxit.core.money import USD, ZERO, plain
from maxxit.core.terms import OrderSide
from trading.reasons import Reason
from trading.states import OrderState
from trading.venues.base import Report, Request, VenueFill
from trading.venues.broker import Ref
from trading.venues.coinbase.client import number
from trading.venues.coinbase.token import LIFETIME_SECONDS

log = structlog.get_logger(__name__)
Row = Mapping[str, Any]

NAMESPACE = UUID("6f1f0c53-8a1c-5d0e-9c1e-3d1a1a0f2b11")
"""Of the UUIDv5 that Coinbase gets as client order id."""
LIFETIME = timedelta(seconds=LIFETIME_SECONDS)
ENDED = {
    "FILLED": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELED,
    "EXPIRED": OrderState.EXPIRED,
    "FAILED": OrderState.REJECTED,
}
"""Coinbase's final words."""
PENDING = frozenset({"OPEN", "PENDING", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED", "UNKNOWN_ORDER_STATUS"})
REASONS: tuple[tuple[str, str], ...] = (
    ("INSUFFICIENT_FUND", Reason.INSUFFICIENT_BALANCE),
    ("INSUFFICIENT_LEDGER_BALANCE", Reason.INSUFFICIENT_BALANCE),
    ("INVALID_LEDGER_BALANCE", Reason.INSUFFICIENT_BALANCE),
    ("SIZE_TOO_SMALL", Reason.BELOW_MINIMUM),
    ("PRODUCT_ID", Reason.TOKEN_NOT_LISTED),
    ("INELIGIBLE_PAIR", Reason.TOKEN_NOT_LISTED),
    ("ORDER_ENTRY_DISABLED", Reason.MARKET_CLOSED),
    ("NO_LIQUIDITY", Reason.MARKET_CLOSED),
    ("ACCOUNT_STATUS", Reason.ACCOUNT_BLOCKED),
)
"""Part of a word that refuses an order -> reason code; the first that fits."""
QUOTED_UNIT = Decimal("1e-8")
"""What a fill whose size is in USD is rounded to, in tokens."""


def sent_id_of(ref: Ref) -> str:
    """Return the client order id that Coinbase gets, a UUID."""
    return str(uuid5(NAMESPACE, ref.client_order_id))


def product_of(symbol: str) -> str:
    """Return the product in which a token is traded for USD."""
    return f"{symbol}-{USD}"


def body_of(request: Request, sent_id: str, limit: Decimal | None) -> str:
    """Return the JSON of an order, every number as a string; without `limit` (USD) it is a market order."""
    return json.dumps(
        {"client_order_id": sent_id, **_terms(request.symbol, request.side, request.quantity, limit)}
    )


def preview_of(symbol: str, side: str, quantity: Decimal, limit: Decimal) -> str:
    """Return the JSON that asks what an entry would come to; `limit` in USD."""
    return json.dumps(_terms(symbol, side, quantity, limit))


def _terms(symbol: str, side: str, quantity: Decimal, limit: Decimal | None) -> dict[str, Any]:
    size = {"base_size": plain(quantity)}
    if limit is None:
        configuration = {"market_market_ioc": size}
    else:
        configuration = {"sor_limit_ioc": {**size, "limit_price": plain(limit)}}
    return {"product_id": product_of(symbol), "side": side.upper(), "order_configuration": configuration}


def bound(price: Decimal, side: str, slippage: Decimal, step: Decimal) -> Decimal:
    """Return the worst price of an entry, USD: `slippage` (a fraction) off `price`, rounded in the trader's favour."""
    sign, rounding = (1, ROUND_FLOOR) if side == OrderSide.BUY else (-1, ROUND_CEILING)
    return (price * (1 + sign * slippage) / step).quantize(Decimal(1), rounding) * step


def refused_word(answer: Row) -> str:
    """Return the word for why an order was not taken; empty where Coinbase does not tell."""
    error = answer.get("error_response") or {}
    words = [
        *(error.get(name) for name in ("new_order_failure_reason", "preview_failure_reason", "error")),
        answer.get("failure_reason"),
    ]
    return next((str(word) for word in words if word and not str(word).startswith("UNKNOWN")), "")


def reason_of(word: str, side: str) -> str:
    """Return the reason code of a refusal."""
    for part, code in REASONS:
        if part in word:
            short = code == Reason.INSUFFICIENT_BALANCE and side.lower() == OrderSide.SELL
            return Reason.NO_POSITION if short else code
    return Reason.REFUSED_BY_VENUE


def report_of(rows: Sequence[Row], executions: Sequence[Row]) -> Report:
    """Return where an order stands.

    Args:
        rows: the orders that have its client order id: one, or more if Coinbase took a repeat for another order.
        executions: their fills, each once, oldest first.
    """
    states = [_state(row) for row in rows]
    fills = tuple(_fill(row) for row in executions)
    if len(rows) > 1:
        log.error("order_doubled", venue="coinbase", orders=[row["order_id"] for row in rows])
    filled = sum((number(row.get("filled_size") or 0) for row in rows), ZERO)
    known = sum((fill.quantity for fill in fills), ZERO)
    if None in states or known != filled:
        return Report(OrderState.PARTIALLY_FILLED if fills else OrderState.ACCEPTED, fills)
    state = OrderState.FILLED if OrderState.FILLED in states else OrderState(str(states[0]))
    if state != OrderState.REJECTED:
        return Report(state, fills)
    if fills:
        return Report(OrderState.CANCELED, fills)
    return Report(state, reason=reason_of(str(rows[0].get("reject_reason") or ""), str(rows[0]["side"])))


def is_open(row: Row) -> bool:
    """Return whether an order may still execute; one of an unknown status may."""
    return str(row.get("status")) not in ENDED


def moment(text: str) -> datetime:
    """Parse one of Coinbase's times."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _state(row: Row) -> OrderState | None:
    state = ENDED.get(row["status"])
    if state is None and row["status"] not in PENDING:
        log.warning("order_status_unknown", venue="coinbase", status=row["status"], order=row["order_id"])
    return state


def _fill(row: Row) -> VenueFill:
    """Return one execution. Its size is in tokens, or in USD where `size_in_quote` says so; its fee is in USD."""
    size, price = number(row["size"]), number(row["price"])
    if size <= 0 or price <= 0:
        raise ValueError(f"a fill of {size} at {price}")
    in_usd = row.get("size_in_quote") in (True, "true")
    quantity = (size / price).quantize(QUOTED_UNIT) if in_usd else size
    return VenueFill(
        fill_id_of(row),
        quantity,
        price,
        quantity * price,
        number(row["commission"]),
        moment(row["trade_time"]),
    )


def fill_id_of(row: Row) -> str:
    """Return what tells a fill from every other: its entry, or its trade where Coinbase leaves the entry out."""
    return str(row.get("entry_id") or row["trade_id"])
