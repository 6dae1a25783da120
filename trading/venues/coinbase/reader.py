"""Read orders and fills of one Coinbase account: many orders in a few requests.

Coinbase has no look-up by client order id. An order is found among the orders of the minutes in which it can have been
taken, and by its own id once that is known.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from maxxit.core.errors import Rejected, Retryable
from trading.venues.base import Report
from trading.venues.broker import Found, Ref
from trading.venues.coinbase.client import Client, Refusal, reading
from trading.venues.coinbase.orders import LIFETIME, Row, fill_id_of, moment, report_of, sent_id_of
from trading.venues.coinbase.token import Keys

log = structlog.get_logger(__name__)
T = TypeVar("T")

ORDERS, FILLS = "/orders/historical", "/orders/historical/fills"
LISTED_FROM = 3
"""From so many orders on, they are listed instead of asking for each."""
SLACK = timedelta(minutes=5)
"""How far Coinbase's clock may be from ours: a token that is further off is refused."""
IDS_AT_ONCE = 50
"""Order ids in one request for fills, so that its address stays short."""
KEPT = 20_000
"""Order ids that are kept."""


class OrderIds:
    """Our id -> Coinbase's id of the orders that were seen, the newest `KEPT`."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def get(self, sent_id: str) -> str:
        """Return Coinbase's id; empty where it is not known."""
        return self._ids.get(sent_id, "")

    def put(self, sent_id: str, order_id: str) -> None:
        """Keep it."""
        self._ids[sent_id] = order_id
        while len(self._ids) > KEPT:
            self._ids.pop(next(iter(self._ids)), None)


class Reader:
    """What one account's orders came to. Make a new one for each batch: it keeps what it read."""

    def __init__(self, client: Client, keys: Keys, ids: OrderIds) -> None:
        self._client, self._keys, self._ids = client, keys, ids
        self.rows: dict[str, list[Row]] = {}
        """Sent id -> the orders that have it."""
        self.unread: dict[str, Retryable] = {}
        """Sent id -> why an order that was taken cannot be read."""

    def reports(self, refs: Sequence[Ref]) -> dict[str, Found]:
        """Return reference -> where the order stands, None where Coinbase does not list it, or why it is unread."""
        reports: dict[str, Found] = {}
        try:
            self.read(refs)
            with reading("fills"):
                executions = self._executions(row for rows in self.rows.values() for row in rows)
        except (Retryable, Rejected) as error:
            return {str(ref): error for ref in refs}
        for ref in refs:
            rows = self.rows.get(sent_id_of(ref))
            try:
                with reading(f"order {ref.client_order_id}"):
                    reports[str(ref)] = (
                        self._report(rows, executions) if rows else self.unread.get(sent_id_of(ref))
                    )
            except Retryable as error:
                reports[str(ref)] = error
        return reports

    def read(self, refs: Sequence[Ref]) -> None:
        """Find orders by Coinbase's ids where few are asked for and those are known, otherwise in its list first.

        Raises Refusal, or Retryable where the list cannot be read.
        """
        many = len(refs) >= LISTED_FROM
        if listed := [ref for ref in refs if many or not self._ids.get(sent_id_of(ref))]:
            self._list({sent_id_of(ref) for ref in listed}, [ref.deadline for ref in listed])
        for ref in refs:
            order_id = self._ids.get(sent_id_of(ref))
            if order_id and sent_id_of(ref) not in self.rows:
                try:
                    self.rows[sent_id_of(ref)] = [self._by_id(order_id, ref)]
                except Retryable as error:
                    self.unread[sent_id_of(ref)] = error

    def _by_id(self, order_id: str, ref: Ref) -> Row:
        try:
            order = self._client.get(self._keys, f"{ORDERS}/{order_id}", "order")["order"]
        except Refusal as refusal:
            if refusal.status == 404:  # it was taken, so it will be shown
                raise Retryable(f"Coinbase does not show the order {ref.client_order_id} yet") from refusal
            raise
        if (
            not isinstance(order, dict)
            or order.get("client_order_id") != sent_id_of(ref)
            or order.get("order_id") != order_id
        ):
            raise Retryable(f"Coinbase answered with another order than {ref.client_order_id}")
        return order

    def _list(self, wanted: set[str], until: Sequence[datetime]) -> None:
        """Keep the wanted orders among those of the minutes in which they can have been taken."""
        query = [
            ("start_date", _stamp(min(until) - LIFETIME - SLACK)),
            ("end_date", _stamp(max(until) + SLACK)),
        ]
        rows: dict[str, dict[str, Any]] = {}
        for row in self._client.pages(self._keys, f"{ORDERS}/batch", "orders", query):
            if str(row.get("client_order_id")) in wanted and isinstance(row.get("order_id"), str):
                rows[row["order_id"]] = row
        for order_id, row in rows.items():
            self.rows.setdefault(row["client_order_id"], []).append(row)
            self._ids.put(row["client_order_id"], order_id)

    def _report(self, rows: Sequence[Row], executions: dict[str, list[Row]]) -> Report:
        return report_of(rows, [fill for row in rows for fill in executions[row["order_id"]]])

    def _executions(self, orders: Iterable[Row]) -> dict[str, list[Row]]:
        """Return order id -> its fills, oldest first, each once."""
        ids = [row["order_id"] for row in orders if row.get("filled_size") not in (None, "", "0")]
        fills: dict[str, dict[str, Any]] = {}
        for some in _in_parts(ids, IDS_AT_ONCE):
            query = [("order_ids", order_id) for order_id in some]
            for row in self._client.pages(self._keys, FILLS, "fills", query):
                if _is_fill(row):
                    fills[fill_id_of(row)] = row
                else:
                    log.error(
                        "fill_not_read",
                        venue="coinbase",
                        kind=row.get("trade_type"),
                        order=row.get("order_id"),
                    )
        by_order: dict[str, list[Row]] = defaultdict(list)
        newest_last = list(fills.values())[::-1]  # Coinbase lists the newest first
        for row in sorted(newest_last, key=lambda fill: moment(fill["trade_time"])):
            by_order[row["order_id"]].append(row)
        return by_order


def _is_fill(row: Row) -> bool:
    """Return whether a row is an execution; corrections and reversals are not booked, so their order stays pending."""
    ids = [row.get("order_id"), row.get("trade_time"), row.get("entry_id") or row.get("trade_id")]
    return all(isinstance(text, str) and text for text in ids) and row.get("trade_type", "FILL") == "FILL"


def _in_parts(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
