"""What deployments owe the platform and since when, and alerts of debts that are high or old.

A payment repays the oldest charges first. So the oldest charge that is not repaid is the first one at which the sum of
all charges exceeds the sum of all payments. All of it follows from the ledger; nothing is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from agents.fee_terms import Uncollected, policy
from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, plain
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, write

UNCOLLECTED = "billing.uncollected"
MOST_ALERTS = 20
"""Deployments that one run alerts of, the highest debts first; each alert names the total of all."""
DEBTS = """
SELECT d.id, d.account, u.username, -b.amount, (
    SELECT c.at FROM (
        SELECT e.at, e.id, sum(-e.amount) OVER (ORDER BY e.id) AS charged
        FROM ledger_entries e WHERE e.account = b.account AND e.asset = 'USDC' AND e.amount < 0
    ) c
    WHERE c.charged > (
        SELECT coalesce(sum(p.amount), 0) FROM ledger_entries p
        WHERE p.account = b.account AND p.asset = 'USDC' AND p.amount > 0
    )
    ORDER BY c.id LIMIT 1
)
FROM ledger_balances b
JOIN agent_deployments d ON b.account = 'deployment:' || d.id || ':payable'
LEFT JOIN auth_user u ON u.id = d.owner_id
WHERE b.asset = 'USDC' AND b.amount < 0 AND (%(ids)s::bigint[] IS NULL OR d.id = ANY(%(ids)s))
ORDER BY 4 DESC, 1
"""
TOTAL = """
SELECT coalesce(-sum(amount), 0), count(*) FILTER (WHERE amount < -%(limit)s) FROM ledger_balances
WHERE account LIKE 'deployment:%%:payable' AND asset = 'USDC' AND amount < 0
"""


@dataclass(frozen=True, slots=True)
class Debt:
    """What one deployment owes the platform."""

    deployment: int
    account: str
    owner: str
    """User name; empty without an owner."""
    owed: Decimal
    """USDC, positive."""
    since: datetime
    """When the oldest charge that is not repaid was booked."""

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings, the time in UTC."""
        return {
            "deployment": self.deployment,
            "account": self.account,
            "owner": self.owner,
            "owed": plain(self.owed),
            "since": iso_utc(self.since),
        }


def debts(deployments: Sequence[int] | None = None) -> list[Debt]:
    """Return what these deployments (None: all) owe, the highest debt first; those that owe nothing are left out."""
    with connection.cursor() as cursor:
        cursor.execute(DEBTS, {"ids": None if deployments is None else list(deployments)})
        return [Debt(pk, account, owner or "", *rest) for pk, account, owner, *rest in cursor.fetchall()]


def is_uncollected(debt: Debt, rule: Uncollected, now: datetime) -> bool:
    """Return whether staff is alerted of a debt: above the limit, or older than the days that are allowed."""
    return debt.owed > rule.limit_usdc or debt.since < now - timedelta(days=rule.max_days)


def uncollected() -> list[Debt]:
    """Return the debts that are too high or too old, the highest first."""
    rule, now = policy().uncollected, clock.now()
    return [debt for debt in debts() if is_uncollected(debt, rule, now)]


@dataclass(frozen=True, slots=True)
class Totals:
    """The debts of all deployments together."""

    owed: Decimal
    """USDC, zero or positive."""
    above_limit: int
    """Deployments that owe more than the limit of config/fees.yaml."""


def totals() -> Totals:
    """Return the debts of all deployments together, without their age."""
    with connection.cursor() as cursor:
        cursor.execute(TOTAL, {"limit": policy().uncollected.limit_usdc})
        return Totals(*cursor.fetchone())


@transaction.atomic
def alert_uncollected() -> int:
    """Record `billing.uncollected` for debts that were not alerted of lately; return how many."""
    rule, now = policy().uncollected, clock.now()
    found = uncollected()
    subjects = {debt.deployment: f"{Deployment._meta.label_lower}/{debt.deployment}" for debt in found}
    since = now - timedelta(days=rule.remind_days)
    known = set(
        Event.objects.filter(name=UNCOLLECTED, subject__in=subjects.values(), at__gt=since).values_list(
            "subject", flat=True
        )
    )
    new = [debt for debt in found if subjects[debt.deployment] not in known][:MOST_ALERTS]
    all_owed = sum((debt.owed for debt in found), ZERO)
    write(
        [
            NewEvent(
                UNCOLLECTED,
                subjects[debt.deployment],
                None,
                {
                    "owed": f"{plain(debt.owed)} USDC",
                    "since": f"{debt.since:%Y-%m-%d}",
                    "limit": f"{plain(rule.limit_usdc)} USDC or {rule.max_days} days",
                    "owner": debt.owner,
                    "all": f"{len(found)} deployments, {plain(all_owed)} USDC",
                    "next": f"ask for payment (manage.py invoice {debt.deployment}), then manage.py billing pay",
                },
            )
            for debt in new
        ]
    )
    return len(new)
