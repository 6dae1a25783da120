"""The stop and the target that Hyperliquid keeps for an entry."""

from collections.abc import Sequence
from decimal import Decimal

from maxxit.core.errors import Retryable
from maxxit.core.money import ZERO
from trading.venues.base import Leg
from trading.venues.broker import Ref
from trading.venues.hyperliquid.orders import TPSL, Row, has_ended, leg_id
from trading.venues.hyperliquid.reader import Reader


def legs_of(reader: Reader, entry: Ref) -> tuple[Leg, ...]:
    """Return the exits of one entry. Raises Retryable where Hyperliquid knows none of them."""
    rows = {reason: reader.order(leg_id(entry.client_order_id, reason)) for reason in TPSL}
    known = {reason: row for reason, row in rows.items() if row is not None}
    if not known:
        raise Retryable(f"Hyperliquid knows no exits of the order {entry.client_order_id}")
    fills = reader.fills_of(list(known.values()))
    return tuple(_leg(entry, reason, row, fills) for reason, row in known.items())


def parts_of(entry: Ref) -> list[str]:
    """Return our ids of an entry and of its exits."""
    return [entry.client_order_id, *(leg_id(entry.client_order_id, reason) for reason in TPSL)]


def _leg(entry: Ref, reason: str, row: Row, fills: Sequence[Row]) -> Leg:
    own = [fill for fill in fills if fill["oid"] == row["order"]["oid"]]
    filled = sum((Decimal(fill["sz"]) for fill in own), ZERO)
    ref = Ref(entry.account, leg_id(entry.client_order_id, reason), entry.deadline)
    return Leg(str(ref), reason, Decimal(row["order"]["origSz"]), filled, ended=has_ended(row, filled))
