"""Read orders and activities of one Alpaca account: many orders in a few requests."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import structlog

from maxxit.core.errors import Retryable
from trading.venues.alpaca.client import Client, Keys, Refusal
from trading.venues.alpaca.orders import Row, has_fills, moment, report_of
from trading.venues.broker import Found

log = structlog.get_logger(__name__)

NOT_FOUND = 40410000
LISTED_FROM = 3
"""From so many orders on, the account's newest orders are listed instead of asking for each."""
ORDER_PAGE, ACTIVITY_PAGE = 500, 100
"""Most rows that one answer may have."""
MOST_PAGES = 20
MOST_LISTED = 2_000
"""Orders that are listed at most."""
MOST_REPLACED = 20
"""How often an order may have been replaced before we give up."""
BEFORE = timedelta(seconds=1)
"""`after` leaves its own moment out."""
AFTER = timedelta(milliseconds=1)

Chain = list[Row]


class Reader:
    """What one account's orders came to. Make a new one for each batch: it keeps what it read."""

    def __init__(self, client: Client, keys: Keys, crypto_fee: Decimal) -> None:
        self._client, self._keys, self._crypto_fee = client, keys, crypto_fee
        self._by_id: dict[str, Row] = {}
        self._by_client_id: dict[str, Row] = {}
        self.chains: dict[str, Chain] = {}
        """Client order id -> the order and what replaced it, of the orders that were found."""

    def reports(self, client_order_ids: Sequence[str]) -> dict[str, Found]:
        """Return client order id -> where the order stands, None where Alpaca does not know it, or why it is unread."""
        self.list_many(client_order_ids)
        found: dict[str, Found] = {}
        for client_order_id in client_order_ids:
            try:
                chain = self._chain(client_order_id)
            except (Retryable, Refusal) as error:
                found[client_order_id] = error
                continue
            if chain:
                self.chains[client_order_id] = chain
            else:
                found[client_order_id] = None
        try:
            executions = self._executions([chain for chain in self.chains.values() if has_fills(chain)])
        except (Retryable, Refusal) as error:
            return found | {one: error for one in self.chains}
        for client_order_id, chain in self.chains.items():
            ids = {row["id"] for row in chain}
            own = [row for row in executions if row["order_id"] in ids]
            found[client_order_id] = report_of(chain, own, self._crypto_fee)
        return found

    def list_many(self, client_order_ids: Sequence[str]) -> None:
        """Read the account's newest orders together, where that takes fewer requests than one for each."""
        if len(client_order_ids) >= LISTED_FROM:
            self._list(client_order_ids)

    def order(self, client_order_id: str) -> Row | None:
        """Return an order by our id; None where Alpaca does not know it."""
        if row := self._by_client_id.get(client_order_id):
            return row
        try:
            row = self._client.get_object(
                self._keys, "/v2/orders:by_client_order_id", "id", client_order_id=client_order_id
            )
        except Refusal as refusal:
            if refusal.status == 404 and refusal.number == NOT_FOUND:
                return None
            raise
        if row["client_order_id"] != client_order_id:
            raise Retryable(f"Alpaca answered with another order than {client_order_id}")
        return row

    def newest(self, client_order_id: str) -> Row | None:
        """Return the order that stands now for ours, after all replacements."""
        chain = self._chain(client_order_id)
        return chain[-1] if chain else None

    def _chain(self, client_order_id: str) -> Chain:
        row = self.order(client_order_id)
        if row is None:
            return []
        return self._with_replacements(row)

    def _with_replacements(self, row: Row) -> Chain:
        chain = [row]
        while chain[-1]["status"] == "replaced" and (following := chain[-1].get("replaced_by")):
            self._check_end(chain, following)
            chain.append(self._by_id.get(following) or self._by_its_id(following))
        return chain

    def whole_chain(self, row: Row) -> Chain:
        """Return an order with what it replaced and what replaced it, oldest first."""
        before: Chain = []
        while replaced := (before[-1] if before else row).get("replaces"):
            self._check_end(before, replaced)
            before.append(self._by_id.get(replaced) or self._by_its_id(replaced))
        return [*reversed(before), *self._with_replacements(row)]

    def nested(self, order_id: str) -> Row:
        """Return an order with its legs."""
        return self._client.get_object(self._keys, f"/v2/orders/{order_id}", "id", nested="true")

    def _check_end(self, chain: Chain, following: str) -> None:
        if len(chain) > MOST_REPLACED or any(one["id"] == following for one in chain):
            raise Retryable(f"the replacements of the order {chain[0]['id']} at Alpaca have no end")

    def _list(self, wanted: Sequence[str]) -> None:
        """Keep the account's orders, newest first, until all wanted ones are among them or `MOST_LISTED` were read.

        One that is missing here is asked for by itself.
        """
        query = {"status": "all", "limit": str(ORDER_PAGE), "direction": "desc", "nested": "true"}
        missing = set(wanted)
        for _ in range(MOST_LISTED // ORDER_PAGE):
            try:
                rows = self._client.get_list(self._keys, "/v2/orders", **query)
            except (Retryable, Refusal) as error:
                log.warning("orders_not_listed", venue="alpaca", error=str(error))
                return
            new = [row for row in rows if row["id"] not in self._by_id]
            known = [*new, *(leg for row in new for leg in row.get("legs") or ())]
            self._by_id |= {row["id"]: row for row in known}
            self._by_client_id |= {row["client_order_id"]: row for row in known}
            missing -= {row["client_order_id"] for row in new}
            if not missing or not new or len(rows) < ORDER_PAGE:
                return
            # `until` leaves its own moment out, and orders of one moment may be cut apart by the page.
            query["until"] = (moment(rows[-1]["submitted_at"]) + AFTER).isoformat()

    def _executions(self, chains: Sequence[Chain]) -> list[Row]:
        """Return the account's FILL activities since the oldest of these orders, oldest first, each once."""
        if not chains:
            return []
        since = min(moment(chain[0]["created_at"]) for chain in chains) - BEFORE
        return self.activities("FILL", f"{since:%Y-%m-%dT%H:%M:%SZ}")

    def activities(self, kinds: str, after: str) -> list[Row]:
        """Return the account's activities of some kinds after a time or a date, oldest first, each once."""
        rows: dict[str, Row] = {}
        query = {"after": after, "direction": "asc", "page_size": str(ACTIVITY_PAGE)}
        for _ in range(MOST_PAGES):
            page = self._client.get_list(self._keys, "/v2/account/activities", activity_types=kinds, **query)
            rows |= {row["id"]: row for row in page}
            if len(page) < ACTIVITY_PAGE:
                return list(rows.values())
            query["page_token"] = page[-1]["id"]
        raise Retryable(
            f"Alpaca has more than {MOST_PAGES * ACTIVITY_PAGE} activities ({kinds}) after {after}"
        )

    def _by_its_id(self, order_id: str) -> Row:
        return self._client.get_object(self._keys, f"/v2/orders/{order_id}", "id")
