"""When each account is compared with its venue next: claim what is due, note how it went.

A claim moves the due time ahead before anything is asked, so that two workers never ask about one account at once, and
an account whose worker was killed is due again after its ordinary interval.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Count, F, QuerySet, Sum

from maxxit.core import clock, redact
from trading import passes
from trading.models import Order
from trading.reconciliation.models import AccountCheck
from trading.states import IN_FLIGHT, IN_FLIGHT_SQL

Kind = AccountCheck.Kind
READ, FAILED, MARKET_CLOSED = "read", "failed", "skipped_market_closed"
LONGEST_ERROR = 300
SLOW_MS = 5_000
"""An account that took longer last time is read by the threads for slow ones."""

WITH_ORDERS = f"SELECT DISTINCT venue, account FROM orders WHERE state IN {IN_FLIGHT_SQL}"  # noqa: S608 (constants only)
DEPLOYED = """
SELECT DISTINCT a.venue, d.account FROM agent_deployments d JOIN agents a ON a.id = d.agent_id WHERE d.state <> 'draft'
"""
ACCOUNTS = {Kind.ORDERS: WITH_ORDERS, Kind.POSITIONS: DEPLOYED}
"""Kind -> the accounts that are compared: those with orders in flight, and those of deployments."""
CLAIM = """
INSERT INTO account_checks (venue, account, kind, due_at, errors)
SELECT due.venue, due.account, %(kind)s, %(next)s, 0 FROM (
    SELECT wanted.venue, wanted.account FROM ({accounts}) AS wanted
    LEFT JOIN account_checks c ON c.venue = wanted.venue AND c.account = wanted.account AND c.kind = %(kind)s
    WHERE (c.id IS NULL OR c.due_at <= %(now)s OR %(all)s)
      AND (%(venues)s::text[] IS NULL OR wanted.venue = ANY(%(venues)s::text[]))
      AND (%(of_venues)s::text[] IS NULL OR (wanted.venue, wanted.account) IN (
          SELECT * FROM unnest(%(of_venues)s::text[], %(accounts)s::text[])))
    ORDER BY c.due_at NULLS FIRST, 1, 2 LIMIT %(most)s
) AS due
ON CONFLICT (venue, account, kind) DO UPDATE SET due_at = excluded.due_at
    WHERE account_checks.due_at <= %(now)s OR %(all)s
RETURNING venue, account, failures, took_ms
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """An account that this process compares now."""

    venue: str
    account: str
    kind: str
    failures: int
    took_ms: int

    @property
    def is_slow(self) -> bool:
        """Return whether it may occupy a thread for long: it failed, or was slow, last time."""
        return self.failures > 0 or self.took_ms > SLOW_MS


def interval(kind: str) -> timedelta:
    """Return the time between two looks of this kind at one account."""
    rules = passes.policy().reconcile
    return timedelta(seconds=rules.orders_seconds if kind == Kind.ORDERS else rules.positions_seconds)


def claim(
    kind: str,
    *,
    now: datetime,
    venues: Sequence[str] | None = None,
    accounts: Collection[tuple[str, str]] | None = None,
    everything: bool = False,
    most: int | None = None,
) -> list[Claim]:
    """Claim the accounts that are due, longest overdue first; with `everything` those that are not due too.

    Args:
        venues: only accounts at these; None: all.
        accounts: (venue, account) of those alone that may be claimed; None: all.
        most: accounts at most.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM.format(accounts=ACCOUNTS[Kind(kind)]),
            {
                "kind": kind, "now": now, "next": now + interval(kind), "all": everything,
                "venues": None if venues is None else list(venues),
                "of_venues": None if accounts is None else [venue for venue, _ in accounts],
                "accounts": None if accounts is None else [account for _, account in accounts],
                "most": most or passes.policy().reconcile.batch,
            },
        )  # fmt: skip
        return [
            Claim(venue, account, kind, failures, ms) for venue, account, failures, ms in cursor.fetchall()
        ]


def note_read(one: Claim, *, result: str = READ, took: timedelta = timedelta(0)) -> None:
    """Note that the venue answered, or was not asked because its market is closed."""
    answered = {"checked_at": clock.now(), "failures": 0, "last_error": ""} if result == READ else {}
    _row(one).update(result=result, took_ms=_ms(took), **answered)


def note_failure(one: Claim, error: Exception, *, took: timedelta = timedelta(0)) -> timedelta:
    """Note a failed read; return the delay until the next one."""
    delay = passes.policy().reconcile.retry_delay(one.failures + 1)
    _row(one).update(
        result=FAILED,
        failures=one.failures + 1,
        errors=F("errors") + 1,
        last_error=redact.text(str(error))[:LONGEST_ERROR],
        due_at=clock.now() + delay,
        took_ms=_ms(took),
    )
    return delay


def accounts(venues: Sequence[str]) -> set[tuple[str, str]]:
    """Return (venue, account) of every deployment at these venues that is no draft."""
    with connection.cursor() as cursor:
        cursor.execute(DEPLOYED)
        return {(venue, account) for venue, account in cursor.fetchall() if venue in venues}


NEXT_DUE = f"""
SELECT min(c.due_at) FROM ({WITH_ORDERS}) AS open JOIN account_checks c USING (venue, account) WHERE c.kind = 'orders'
"""  # noqa: S608 (constants only)


def next_orders_due() -> datetime | None:
    """Return when the next account with open orders is asked; None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT_DUE)
        [due] = cursor.fetchone()
    at: datetime | None = due
    return at


def errors() -> dict[str, int]:
    """Return venue -> failed reads since its accounts were first compared."""
    rows = AccountCheck.objects.order_by("venue").values_list("venue").annotate(total=Sum("errors"))
    return dict(rows)


def pending_orders() -> dict[str, int]:
    """Return venue -> orders in flight."""
    rows = Order.objects.filter(state__in=IN_FLIGHT).order_by("venue").values_list("venue")
    return dict(rows.annotate(count=Count("pk")))


def _row(one: Claim) -> QuerySet[AccountCheck]:
    return AccountCheck.objects.filter(venue=one.venue, account=one.account, kind=one.kind)


def _ms(took: timedelta) -> int:
    return int(took.total_seconds() * 1000)
