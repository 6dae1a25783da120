"""A deployment's statement: what it held, every line of its ledger with the balance after it, what it holds."""

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
from trading import ledger

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before any ledger of ours."""
BOOKED = """
SELECT 0 AS id, NULL::timestamptz, account, '', asset, sum(amount), NULL::bigint, '', '', NULL::uuid
FROM (
    SELECT account, asset, amount FROM ledger_balances WHERE account = ANY(%(accounts)s)
    UNION ALL
    SELECT account, asset, -amount FROM ledger_entries WHERE account = ANY(%(accounts)s) AND at >= %(since)s
) AS moved
GROUP BY account, asset
UNION ALL
SELECT e.id, e.at, e.account, e.kind, e.asset, e.amount, e.order_id, o.purpose, o.symbol, e.correlation_id
FROM ledger_entries e LEFT JOIN orders o ON o.id = e.order_id
WHERE e.account = ANY(%(accounts)s) AND e.at >= %(since)s AND e.at < %(until)s
ORDER BY id
"""
"""Opening balances, without a time, and then the lines, in one snapshot.

An opening balance is what is held now less all that was booked since: its cost follows the time that the statement
goes back, not the age of the ledger.
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
    """One line of the ledger, in whole units of its asset."""

    at: datetime
    book: str
    """held: in the deployment's account at its venue; owed: what it owes the platform (negative)."""
    kind: str
    asset: str
    amount: Decimal
    balance: Decimal
    """Of this asset in this book, after the line."""
    order_id: int | None
    what: str
    """open ETH, close ETH; empty where no order was the cause."""
    correlation_id: UUID | None

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings, the time in UTC."""
        told = {name: getattr(self, name) for name in ("book", "kind", "asset", "order_id", "what")}
        return (
            {"at": self.at.isoformat()}
            | told
            | {
                "amount": plain(self.amount),
                "balance": plain(self.balance),
                "correlation_id": str(self.correlation_id) if self.correlation_id else None,
            }
        )


Balances = dict[tuple[str, str], Decimal]
"""(book, asset) -> whole units; what is zero is left out."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The ledger of one deployment between two moments: `opening` plus `lines` is `closing`."""

    deployment: Deployment
    since: datetime
    until: datetime
    opening: Balances
    lines: list[Line]
    closing: Balances

    @property
    def totals(self) -> dict[tuple[str, str], Decimal]:
        """(kind, asset) -> what moved in all."""
        found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for line in self.lines:
            found[line.kind, line.asset] += line.amount
        return dict(sorted(found.items()))

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return {
            "deployment": self.deployment.pk,
            "account": self.deployment.account,
            "from": self.since.isoformat(),
            "to": self.until.isoformat(),
            "opening": list(_told(self.opening)),
            "lines": [line.as_json() for line in self.lines],
            "closing": list(_told(self.closing)),
            "totals": [
                {"kind": kind, "asset": asset, "amount": plain(amount)}
                for (kind, asset), amount in self.totals.items()
            ],
        }


def _told(balances: Balances) -> Iterator[dict[str, str]]:
    for (book, asset), amount in sorted(balances.items()):
        yield {"book": book, "asset": asset, "amount": plain(amount)}


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raises `Rejected` where both ends are given and the span would begin after its end."""
    if since and until and since > until:
        raise Rejected(
            f"the span begins at {since.isoformat()}, after its end at {until.isoformat()}", code="no_span"
        )


def statement(deployment: Deployment, since: datetime, until: datetime, most: int | None = None) -> Statement:
    """Every line of the ledger from `since` up to, not including, `until`; the newest `most` of them.

    Where there are more lines than `most` the statement begins later than asked, at the first line that it has.
    """
    books = {ledger.account_of(deployment.pk): "held", ledger.payable_of(deployment.pk): "owed"}
    told: dict[str, Any] = {"accounts": list(books), "since": since, "until": until, "most": most}
    with connection.cursor() as cursor:
        if most is not None:
            cursor.execute(SHORTEN, told)
            if shortened := cursor.fetchone():
                told["since"] = since = shortened[0]
        cursor.execute(BOOKED, told)
        booked = cursor.fetchall()
    held: Balances = {}
    opening: Balances = {}
    lines: list[Line] = []
    for _, at, account, kind, asset, amount, order_id, purpose, symbol, correlation_id in booked:
        key = books[account], asset
        held[key] = held.get(key, ZERO) + amount
        if at is None:
            opening |= {key: amount} if amount else {}
            continue
        what = f"{purpose} {symbol}" if order_id else ""
        lines.append(Line(at, key[0], kind, asset, amount, held[key], order_id, what, correlation_id))
    return Statement(
        deployment, since, until, opening, lines, {key: amount for key, amount in held.items() if amount}
    )
