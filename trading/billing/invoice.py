"""The invoice of a deployment for one calendar month (UTC), from the ledger alone.

opening debt + charged − paid = closing debt. Charged is what becomes a debt; what the venue collected was taken from
the account there and is no debt. An amount belongs to the month in which it was booked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import USDC, ZERO, plain
from trading import ledger
from trading.billing import on_chain
from trading.billing.models import BillingKind
from trading.billing.subscriptions import add_months
from trading.billing.terms import read_terms
from trading.models import JournalKind, LedgerEntry
from trading.risk.limits_in_force import protective_limits
from trading.wiring import venue

LABELS = {
    BillingKind.INFRA_FEE: "Trade fees",
    BillingKind.PROFIT_SHARE: "Profit shares",
    BillingKind.SUBSCRIPTION: "Subscription",
}
UNITS = {
    BillingKind.INFRA_FEE: "trades",
    BillingKind.PROFIT_SHARE: "closed positions",
    BillingKind.SUBSCRIPTION: "months",
}
KINDS = """
CASE WHEN journal_kind = 'subscription' THEN 'subscription' WHEN kind = 'profit_share' THEN 'profit_share'
     WHEN kind = 'platform_fee' THEN 'infra_fee' ELSE 'paid' END
"""
BOOKED = f"""
SELECT 'opening', 0, coalesce(sum(amount), 0), 0
FROM (
    SELECT amount FROM ledger_balances WHERE account = %(owed)s AND asset = 'USDC'
    UNION ALL
    SELECT -amount FROM ledger_entries WHERE account = %(owed)s AND asset = 'USDC' AND at >= %(start)s
) AS moved
UNION ALL
SELECT {KINDS}, count(DISTINCT coalesce(order_id::text, journal)),
       coalesce(sum(amount) FILTER (WHERE account = %(owed)s), 0),
       coalesce(sum(amount) FILTER (WHERE account = %(held)s), 0)
FROM ledger_entries
WHERE at >= %(start)s AND at < %(end)s AND asset = 'USDC'
  AND (account = %(owed)s OR account = %(held)s AND kind IN ('platform_fee', 'profit_share'))
GROUP BY 1
"""  # noqa: S608 (constants only)
"""Opening balance of the debt, then per kind: count, amount on the account of the debt, amount on that of the holdings.

Read in one snapshot. The amounts are those of the ledger: a charge is negative.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """The charges of one kind in the month, USDC."""

    kind: BillingKind
    count: int
    """Trades, closed positions or months."""
    charged: Decimal
    """Became a debt."""
    collected: Decimal
    """Taken by the venue from the account itself."""

    @property
    def label(self) -> str:
        """The kind, for people."""
        return LABELS[self.kind]

    @property
    def quantity(self) -> str:
        """The count with its unit: `3 trades`."""
        return f"{self.count} {UNITS[self.kind].removesuffix('s') if self.count == 1 else UNITS[self.kind]}"

    @property
    def amount(self) -> Decimal:
        """Charged and collected together."""
        return self.charged + self.collected


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of the debt from outside."""

    at: datetime
    reference: str
    amount: Decimal
    """USDC."""


@dataclass(frozen=True)
class Invoice:
    """The invoice of one deployment and month. Amounts in USDC, debts positive."""

    deployment: Deployment
    start: datetime
    end: datetime
    """Begin of the next month."""
    issued_at: datetime
    terms: dict[str, str]
    """What is charged, in words by occasion."""
    lines: list[Line]
    payments: list[Payment]
    opening: Decimal
    chain: on_chain.Collected | None
    """For a Safe: what its module's events say of the same fills."""

    @property
    def number(self) -> str:
        """The number of the invoice: `7-2026-11`."""
        return f"{self.deployment.pk}-{self.start:%Y-%m}"

    @property
    def final(self) -> bool:
        """Whether the month is over; until then the invoice is preliminary."""
        return self.issued_at >= self.end

    @property
    def charged(self) -> Decimal:
        """What became a debt in the month."""
        return sum((line.charged for line in self.lines), ZERO)

    @property
    def collected(self) -> Decimal:
        """What the venue took in the month."""
        return sum((line.collected for line in self.lines), ZERO)

    @property
    def total(self) -> Decimal:
        """All fees and shares of the month."""
        return self.charged + self.collected

    @property
    def paid(self) -> Decimal:
        """What was paid from outside in the month."""
        return sum((payment.amount for payment in self.payments), ZERO)

    @property
    def closing(self) -> Decimal:
        """What is owed at the end of the month."""
        return self.opening + self.charged - self.paid

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings, for `--json` and the API."""
        amounts = ("opening", "charged", "collected", "total", "paid", "closing")
        return {
            "number": self.number,
            "deployment": self.deployment.pk,
            "agent": self.deployment.agent.name,
            "account": self.deployment.account,
            "owner": self.deployment.owner.get_username() if self.deployment.owner else "",
            "month": f"{self.start:%Y-%m}",
            "from": iso_utc(self.start),
            "to": iso_utc(self.end),
            "final": self.final,
            "currency": USDC,
            "terms": self.terms,
            "lines": [
                {
                    "kind": str(line.kind),
                    "count": line.count,
                    "charged": plain(line.charged),
                    "collected": plain(line.collected),
                    "amount": plain(line.amount),
                }
                for line in self.lines
            ],
            "payments": [
                {"at": iso_utc(one.at), "reference": one.reference, "amount": plain(one.amount)}
                for one in self.payments
            ],
            **{name: plain(getattr(self, name)) for name in amounts},
            "chain": self.chain.as_json() if self.chain else None,
        }


def parse_month(text: str) -> datetime:
    """Return the begin of a month such as `2026-11` in UTC. Raises Rejected for anything else, or a future month."""
    try:
        start = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise Rejected(f"{text!r} is not a month: give one as 2026-11", code="no_month") from None
    if start > clock.now():
        raise Rejected(f"{text} has not begun: give this month or an earlier one", code="no_month")
    return start


def invoice(deployment: Deployment, start: datetime, *, live: bool = False) -> Invoice:
    """Return the invoice of a deployment, whose agent and owner are loaded, for the month that begins at `start`.

    Args:
        live: compare a Safe's fees with the module's events at the nodes, not with the stored receipts.
    """
    end = add_months(start, 1)
    accounts = {"owed": ledger.payable_of(deployment.pk), "held": ledger.account_of(deployment.pk)}
    with connection.cursor() as cursor:
        cursor.execute(BOOKED, accounts | {"start": start, "end": end})
        booked = {kind: (count, owed, held) for kind, count, owed, held in cursor.fetchall()}
    terms = read_terms([deployment.pk], protective_limits().fees)[deployment.pk]
    lines = [
        Line(kind, count, ZERO - owed, ZERO - held)
        for kind in LABELS
        if (row := booked.get(kind))
        for count, owed, held in (row,)
    ]
    return Invoice(
        deployment,
        start,
        end,
        clock.now(),
        {str(occasion): words for occasion, words in terms.words().items()},
        lines,
        list(_payments(accounts["owed"], start, end)),
        ZERO - booked["opening"][1],
        _chain(deployment, accounts["held"], start, end, live),
    )


def _payments(account: str, start: datetime, end: datetime) -> Iterator[Payment]:
    entries = LedgerEntry.objects.filter(
        account=account, at__gte=start, at__lt=end, journal_kind=JournalKind.PAYMENT
    )
    for entry in entries.order_by("id"):
        yield Payment(entry.at, entry.journal.partition(":")[2], entry.amount)


def _chain(
    deployment: Deployment, account: str, start: datetime, end: datetime, live: bool
) -> on_chain.Collected | None:
    """Return the comparison with the chain for a Safe that trades spot, None for another account."""
    if not deployment.safe_wallet or deployment.trades_perps:
        return None
    if venue(deployment.agent.venue).safe_access() is None:
        return None
    lines = LedgerEntry.objects.filter(
        account=account, at__gte=start, at__lt=end, journal_kind=JournalKind.TAKEN
    )
    return on_chain.collected(deployment, list(lines.order_by("id")), live=live)
