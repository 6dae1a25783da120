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
from maxxit.core.money import plain
from trading import ledger

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before any ledger of ours."""
LINES = """
SELECT at, account, kind, asset, amount, balance, order_id, purpose, symbol, correlation_id FROM (
    SELECT e.id, e.at, e.account, e.kind, e.asset, e.amount, e.order_id, o.purpose, o.symbol, e.correlation_id,
           sum(e.amount) OVER (PARTITION BY e.account, e.asset ORDER BY e.id) AS balance
    FROM ledger_entries e LEFT JOIN orders o ON o.id = e.order_id
    WHERE e.account = ANY(%(accounts)s) AND e.at < %(until)s
) AS booked
WHERE at >= %(since)s
ORDER BY id
"""
OPENING = """
SELECT account, asset, sum(amount) FROM ledger_entries
WHERE account = ANY(%(accounts)s) AND at < %(since)s
GROUP BY account, asset
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


def statement(deployment: Deployment, since: datetime, until: datetime) -> Statement:
    """Every line of the ledger from `since` up to, not including, `until`."""
    books = {ledger.account_of(deployment.pk): "held", ledger.payable_of(deployment.pk): "owed"}
    told: dict[str, Any] = {"accounts": list(books), "since": since, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(OPENING, told)
        opening = {(books[account], asset): amount for account, asset, amount in cursor.fetchall() if amount}
        cursor.execute(LINES, told)
        lines = [
            Line(
                at,
                books[account],
                kind,
                asset,
                amount,
                balance,
                order_id,
                f"{purpose} {symbol}" if order_id else "",
                correlation_id,
            )
            for at, account, kind, asset, amount, balance, order_id, purpose, symbol, correlation_id in cursor
        ]
    closing = opening | {(line.book, line.asset): line.balance for line in lines}
    return Statement(
        deployment, since, until, opening, lines, {key: amount for key, amount in closing.items() if amount}
    )
