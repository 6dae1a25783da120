"""Read orders, fills and other lists of one Hyperliquid account."""

from collections.abc import Sequence
from typing import Any

from maxxit.core.errors import Retryable
from trading.states import OrderState
from trading.venues.base import Report
from trading.venues.broker import Found, Ref
from trading.venues.hyperliquid.client import Client, Keys, Refusal
from trading.venues.hyperliquid.moves import LiquidationRef
from trading.venues.hyperliquid.orders import Row, fill_of, has_fills, report_of
from trading.venues.hyperliquid.wire import cloid_of

FILL_PAGE, ROW_PAGE, MOST_PAGES = 2_000, 500, 10
"""Fills in one answer of userFillsByTime, rows in one of the account's other lists, and how many answers are read."""


class Reader:
    """What one account's orders came to. `takes_fee`: our orders pay a builder fee, which their fills contain."""

    def __init__(self, client: Client, keys: Keys, *, takes_fee: bool) -> None:
        self._client, self._keys, self._takes_fee = client, keys, takes_fee

    def reports(self, refs: Sequence[Ref]) -> dict[str, Found]:
        """Return reference -> where the order stands, None where Hyperliquid does not know it, or why it is unread."""
        found: dict[str, Found] = {}
        rows: dict[str, Row] = {}
        for ref in refs:
            try:
                row = self.order(ref.client_order_id)
            except (Retryable, Refusal) as error:
                found[str(ref)] = error
                continue
            if row is None:
                found[str(ref)] = None
            else:
                rows[str(ref)] = row
        try:
            fills = self.fills_of(list(rows.values()))
        except (Retryable, Refusal) as error:
            return found | {ref: error for ref in rows}
        for text, row in rows.items():
            own = [fill for fill in fills if fill["oid"] == row["order"]["oid"]]
            found[text] = report_of(row, own, takes_fee=self._takes_fee)
        return found

    def liquidation_reports(self, refs: Sequence[LiquidationRef]) -> dict[str, Found]:
        """Return the reports of liquidations, by their fills: Hyperliquid made these orders and they have ended.

        Raises Retryable or Refusal where the fills cannot be read.
        """
        fills = self.fills_since(min(ref.milliseconds for ref in refs))
        found: dict[str, Found] = {}
        for ref in refs:
            own = [row for row in fills if row["oid"] == ref.oid]
            executions = tuple(fill_of(row, takes_fee=self._takes_fee) for row in own)
            found[str(ref)] = Report(OrderState.FILLED, executions) if executions else None
        return found

    def order(self, client_order_id: str) -> Row | None:
        """Return an order with its status; None where Hyperliquid does not know it."""
        cloid = cloid_of(client_order_id)
        answer = self._client.info_object("orderStatus", "status", user=self._keys.address, oid=cloid)
        if answer["status"] == "unknownOid":
            return None
        row = answer.get("order")
        if answer["status"] != "order" or not isinstance(row, dict) or row["order"].get("cloid") != cloid:
            raise Retryable(f"Hyperliquid's answer about the order {client_order_id} names another one")
        return row

    def fills_of(self, orders: Sequence[Row]) -> list[Row]:
        """Return the account's fills since the oldest of these orders, oldest first, each once."""
        touched = [row["order"]["timestamp"] for row in orders if has_fills(row)]
        return self.fills_since(min(touched)) if touched else []

    def fills_since(self, milliseconds: int) -> list[Row]:
        """Return the account's fills from a moment on (milliseconds since 1970), oldest first, each once."""
        fills: dict[Any, Row] = {}
        for _ in range(MOST_PAGES):
            page = self._client.info_list("userFillsByTime", user=self._keys.address, startTime=milliseconds)
            fills |= {row["tid"]: row for row in page}
            if len(page) < FILL_PAGE:
                return sorted(fills.values(), key=lambda row: (row["time"], row["tid"]))
            milliseconds = max(row["time"] for row in page)
        raise Retryable(f"Hyperliquid has more than {MOST_PAGES * FILL_PAGE} fills to read")

    def rows_since(self, kind: str, milliseconds: int) -> list[Row]:
        """Return the account's rows of a kind from a moment on, oldest first; some may come twice."""
        rows: list[Row] = []
        for _ in range(MOST_PAGES):
            page = self._client.info_list(kind, user=self._keys.address, startTime=milliseconds)
            rows += page
            if len(page) < ROW_PAGE or page[-1]["time"] == milliseconds:
                return rows
            milliseconds = page[-1]["time"]
        raise Retryable(f"Hyperliquid has more than {MOST_PAGES * ROW_PAGE} rows of {kind} to read")
