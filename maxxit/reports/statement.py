"""The account statement of a deployment: opening balances, ledger entries with running balances, closing balances."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.core.money import ZERO, plain
from positions.margins import attach
from positions.models import Position
from trading import ledger
from trading.models import JournalKind
from trading.perps.margin import has_margin

WHAT = {
    JournalKind.SUBSCRIPTION: "subscription",
    JournalKind.PAYMENT: "payment",
    JournalKind.FUNDING: "funding",
}
"""Journal kind -> what caused an entry, where no order did."""
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier than any ledger entry."""
BOOKED = """
SELECT 0 AS id, NULL::timestamptz, account, '', asset, sum(amount), NULL::bigint, '', '', '', NULL::uuid, ''
FROM (
    SELECT account, asset, amount FROM ledger_balances WHERE account = ANY(%(accounts)s)
    UNION ALL
    SELECT account, asset, -amount FROM ledger_entries WHERE account = ANY(%(accounts)s) AND at >= %(since)s
) AS moved
GROUP BY account, asset
UNION ALL
SELECT e.id, e.at, e.account, e.kind, e.asset, e.amount, e.order_id, o.purpose, o.symbol, e.journal_kind,
       e.correlation_id, f.symbol
FROM ledger_entries e LEFT JOIN orders o ON o.id = e.order_id
LEFT JOIN funding_payments f ON e.journal_kind = 'funding' AND f.deployment_id = e.deployment_id
    AND f.reference = substr(e.journal, length('funding:' || e.deployment_id || ':') + 1)
WHERE e.account = ANY(%(accounts)s) AND e.at >= %(since)s AND e.at < %(until)s
ORDER BY id
"""
"""Opening balances (rows without a time), then the entries, read in one snapshot.

An opening balance is the present balance less everything booked since, so that the query costs what the span is long,
not what the ledger is old.
"""
SHORTEN = """
SELECT min(at) FROM (
    SELECT at FROM ledger_entries WHERE account = ANY(%(accounts)s) AND at >= %(since)s AND at < %(until)s
    ORDER BY at DESC LIMIT %(most)s
) AS newest
HAVING count(*) = %(most)s
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One ledger entry, in whole units of its asset."""

    at: datetime
    book: str
    """`held`: in the deployment's account at its venue; `owed`: to the platform (negative)."""
    kind: str
    asset: str
    amount: Decimal
    balance: Decimal
    """Of this asset in this book, after the entry."""
    order_id: int | None
    what: str
    """Such as `open ETH`, `close ETH`, `funding ETH`, `subscription` or `payment`; empty for others."""
    correlation_id: UUID | None

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings, the time in UTC."""
        fields = {name: getattr(self, name) for name in ("book", "kind", "asset", "order_id", "what")}
        return (
            {"at": self.at.isoformat()}
            | fields
            | {
                "amount": plain(self.amount),
                "balance": plain(self.balance),
                "correlation_id": str(self.correlation_id) if self.correlation_id else None,
            }
        )


Balances = dict[tuple[str, str], Decimal]
"""(book, asset) -> whole units; zero balances are left out."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The ledger of one deployment between two moments: `opening` plus `lines` equals `closing`."""

    deployment: Deployment
    since: datetime
    until: datetime
    opening: Balances
    lines: list[Line]
    closing: Balances
    margin: list[Position]
    """Positions with margin that were open in the span, their `margin` attached."""

    @property
    def totals(self) -> dict[tuple[str, str], Decimal]:
        """Sum the entries: (kind, asset) -> whole units."""
        sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for line in self.lines:
            sums[line.kind, line.asset] += line.amount
        return dict(sorted(sums.items()))

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings, for `--json` and the API."""
        return {
            "deployment": self.deployment.pk,
            "account": self.deployment.account,
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "opening": list(_balance_rows(self.opening)),
            "lines": [line.as_json() for line in self.lines],
            "closing": list(_balance_rows(self.closing)),
            "totals": [
                {"kind": kind, "asset": asset, "amount": plain(amount)}
                for (kind, asset), amount in self.totals.items()
            ],
            "margin": [
                {"position": row.pk, "symbol": row.symbol, "side": row.side, "status": row.state}
                | row.margin.as_json()
                for row in self.margin
                if row.margin
            ],
        }


def _balance_rows(balances: Balances) -> Iterator[dict[str, str]]:
    for (book, asset), amount in sorted(balances.items()):
        yield {"book": book, "asset": asset, "amount": plain(amount)}


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raise `Rejected` where both ends are given and `since` is after `until`."""
    if since and until and since > until:
        raise Rejected(
            f"the span begins at {since.isoformat()}, after its end at {until.isoformat()}: swap them",
            code="no_span",
        )


def statement(deployment: Deployment, since: datetime, until: datetime, most: int | None = None) -> Statement:
    """Read a deployment's ledger in [since, until), at most the newest `most` entries.

    With more entries than `most` the statement begins later than `since`, at the first entry that it has.
    """
    books = {ledger.account_of(deployment.pk): "held", ledger.payable_of(deployment.pk): "owed"}
    query: dict[str, Any] = {"accounts": list(books), "since": since, "until": until, "most": most}
    with connection.cursor() as cursor:
        if most is not None:
            cursor.execute(SHORTEN, query)
            if shortened := cursor.fetchone():
                query["since"] = since = shortened[0]
        cursor.execute(BOOKED, query)
        booked = cursor.fetchall()
    held: Balances = {}
    opening: Balances = {}
    lines: list[Line] = []
    for (
        _,
        at,
        account,
        kind,
        asset,
        amount,
        order_id,
        purpose,
        symbol,
        journal,
        correlation_id,
        funded,
    ) in booked:
        key = books[account], asset
        held[key] = held.get(key, ZERO) + amount
        if at is None:
            opening |= {key: amount} if amount else {}
            continue
        what = f"{purpose} {symbol}" if order_id else f"{WHAT.get(journal, '')} {funded or ''}".strip()
        lines.append(Line(at, key[0], kind, asset, amount, held[key], order_id, what, correlation_id))
    closing = {key: amount for key, amount in held.items() if amount}
    return Statement(
        deployment, since, until, opening, lines, closing, _with_margin(deployment, since, until)
    )


def _with_margin(deployment: Deployment, since: datetime, until: datetime) -> list[Position]:
    """Return the deployment's positions with margin that were open in [since, until), oldest first."""
    if not has_margin(deployment.agent.venue):
        return []
    rows = Position.objects.filter(deployment=deployment, opened_at__lt=until).exclude(closed_at__lt=since)
    return attach(rows.select_related("entry_order").order_by("pk"))
