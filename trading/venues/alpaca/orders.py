"""Orders in Alpaca's words: the report that follows from an order and its fills.

The owner of an account can replace an order at Alpaca, so an order of ours is a chain of rows, oldest first. Its fills
are the executions among the account's activities. They may come later than the order's status: an order is reported as
ended only when they add up to its filled quantity.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import structlog

from maxxit.core.money import ZERO
from maxxit.core.terms import OrderSide
from trading.reasons import Reason
from trading.states import OrderState
from trading.venues.base import Report, VenueFill

log = structlog.get_logger(__name__)
Row = Mapping[str, Any]

ENDED = {
    "filled": OrderState.FILLED,
    "canceled": OrderState.CANCELED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}
"""Alpaca's final words. `replaced` is not among them: the order goes on as the one that replaced it."""
PENDING = frozenset(
    {
        "new", "partially_filled", "done_for_day", "replaced", "pending_cancel", "pending_replace", "pending_review",
        "accepted", "pending_new", "accepted_for_bidding", "stopped", "suspended", "calculated", "held",
    }
)  # fmt: skip
COIN_UNIT = Decimal("1e-9")
"""Alpaca keeps quantities to nine decimals."""


def report_of(chain: Sequence[Row], executions: Sequence[Row], crypto_fee: Decimal) -> Report:
    """Return where an order stands.

    Args:
        chain: the order and what replaced it, oldest first.
        executions: FILL activities of these orders, oldest first.
        crypto_fee: fraction that Alpaca keeps of what a crypto order receives.
    """
    last = chain[-1]
    crypto = last.get("asset_class") == "crypto"
    fills = tuple(_fill(row, crypto_fee if crypto else ZERO) for row in executions)
    filled = filled_of(chain)
    known = sum((Decimal(row["qty"]) for row in executions), ZERO)
    state = ENDED.get(last["status"])
    if state is None and last["status"] not in PENDING:
        log.warning("order_status_unknown", venue="alpaca", status=last["status"], order=last["id"])
    if state is None or known != filled:
        return Report(OrderState.PARTIALLY_FILLED if fills else OrderState.ACCEPTED, fills)
    return Report(state, fills, Reason.REFUSED_BY_VENUE if state == OrderState.REJECTED else "")


def is_open(row: Row) -> bool:
    """Return whether an order may still execute; one of an unknown status may."""
    return row["status"] not in ENDED and row["status"] != "replaced"


def filled_of(chain: Iterable[Row], name: str = "filled_qty") -> Decimal:
    """Return the sum of a quantity over the rows of a chain: what is filled, or `qty`."""
    return sum((_number(row.get(name)) for row in chain), ZERO)


def has_fills(chain: Iterable[Row]) -> bool:
    """Return whether some of an order was executed."""
    return any(_number(row["filled_qty"]) for row in chain)


def moment(text: str) -> datetime:
    """Parse one of Alpaca's times; they have nanoseconds."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _fill(row: Row, crypto_fee: Decimal) -> VenueFill:
    """Return one execution.

    The fee of a crypto buy is taken from the coins (alpacahq/alpaca-py#374): they cost more apiece, so the price is
    what was paid for each coin received. The fee of a sale is taken in USD.
    """
    quantity, price = Decimal(row["qty"]), Decimal(row["price"])
    cash, fee = quantity * price, ZERO
    if crypto_fee and row["side"] == OrderSide.BUY:
        quantity = max((quantity * (1 - crypto_fee)).quantize(COIN_UNIT, ROUND_FLOOR), COIN_UNIT)
        price = cash / quantity
    elif crypto_fee:
        fee = cash * crypto_fee
    return VenueFill(row["id"], quantity, price, cash, fee, moment(row["transaction_time"]))


def _number(text: Any) -> Decimal:
    """Parse a number of Alpaca's, which is null until it is known."""
    return Decimal(text) if text is not None else ZERO
