"""Digests: what happened in a user's own time slots, in one message.

sentiment  each four hours from midnight on: which tokens the followed authors were for and against
pnl        at 8:00: the trades that were closed the day before
blocked    at 8:00: the entries that were blocked the day before, by reason
authors    on Monday at 8:00: the trades of the week before by author

A user turns each on for the channels that they choose (`maxxit.notify.kinds`). Times are wall-clock times in the zone
of the user's notification settings and follow its change of clocks: a day may have 23 or 25 hours. A slot is written
once, by a unique row; one that began more than `LATE` ago is not made up for, and one without content is no message.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import structlog
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from agents.models import Deployment
from agents.states import DeploymentState
from maxxit.core import clock, time_zones
from maxxit.core.money import ZERO
from maxxit.events.record import record
from maxxit.notify.models import DigestSlot, NotificationSettings
from maxxit.reports.trades.reasons import explain
from positions.models import Position
from positions.performance import parts
from positions.states import PositionState
from trading.states import OrderState

log = structlog.get_logger(__name__)
LATE = timedelta(hours=3)
AT = time(8)
HOURS = 4
"""Of the digest of sentiment."""
AT_ONCE = 500
"""Digests of one pass; the next continues."""
LISTED = 5
"""Tokens, reasons and authors that a digest names."""


@dataclass(frozen=True, slots=True)
class Span:
    """What a digest is about, UTC; it is due at `end`, or at `due` where that is later."""

    begin: datetime
    end: datetime
    due: datetime


def _local(day: date, at: time, zone: tzinfo) -> datetime:
    """Return the first moment of a local time; that of the change of clocks where the time is skipped."""
    return datetime.combine(day, at, tzinfo=zone).astimezone(time_zones.zone(""))


def every_four_hours(now: datetime, zone: tzinfo) -> Span:
    """Return the slot of four hours by the wall clock that ended last."""
    today = now.astimezone(zone).date()
    ends = [
        _local(today + timedelta(days=days), time(hour), zone)
        for days in (-1, 0)
        for hour in range(0, 24, HOURS)
    ]
    past = [end for end in ends if end <= now]
    return Span(past[-2], past[-1], past[-1])


def yesterday(now: datetime, zone: tzinfo) -> Span:
    """Return the last local day whose digest is due."""
    today = now.astimezone(zone).date()
    if _local(today, AT, zone) > now:
        today -= timedelta(days=1)
    return Span(
        _local(today - timedelta(days=1), time(), zone), _local(today, time(), zone), _local(today, AT, zone)
    )


def last_week(now: datetime, zone: tzinfo) -> Span:
    """Return the last local week, from Monday to Monday, whose digest is due."""
    today = now.astimezone(zone).date()
    monday = today - timedelta(days=today.weekday())
    if _local(monday, AT, zone) > now:
        monday -= timedelta(days=7)
    return Span(
        _local(monday - timedelta(days=7), time(), zone),
        _local(monday, time(), zone),
        _local(monday, AT, zone),
    )


SENTIMENT = """
SELECT token, count(*) FILTER (WHERE p.sides->>token = 'long'), count(*) FILTER (WHERE p.sides->>token = 'short')
FROM ct_posts p CROSS JOIN LATERAL unnest(p.tokens) AS token
WHERE p.is_signal_candidate AND p.ingested_at >= %(begin)s AND p.ingested_at < %(end)s AND p.account_id IN (
    SELECT f.account_id FROM agent_accounts f JOIN agent_deployments d ON d.agent_id = f.agent_id
    WHERE d.id = ANY(%(deployments)s))
GROUP BY token ORDER BY count(*) DESC, token
"""


def sentiment(deployments: list[int], span: Span) -> str:
    """Return how many calls of the followed authors were for and against each token; empty without any."""
    rows = _rows(SENTIMENT, {"begin": span.begin, "end": span.end, "deployments": deployments})
    listed = [
        f"{token} {bullish} bullish, {bearish} bearish"
        for token, bullish, bearish in rows
        if bullish or bearish
    ]
    return f"Calls of the authors whom your agents follow: {_some(listed)}." if listed else ""


def pnl(deployments: list[int], span: Span) -> str:
    """Return the trades that were closed, with their PnL; empty where none was and none is open."""
    total = parts.total(deployments, span.begin, span.end)
    still_open = (
        Position.objects.filter(deployment_id__in=deployments).exclude(state=PositionState.CLOSED).count()
    )
    if not total.trades and not still_open:
        return ""
    if not total.trades:
        return f"No trade closed; {_counted(still_open, 'position')} open."
    return (
        f"{_counted(int(total.trades), 'trade')} closed, {int(total.winners)} with a profit: {_usdc(total.net)} after "
        f"{total.fees:.2f} USDC of fees and {total.profit_share:.2f} USDC of profit share; "
        f"{_counted(still_open, 'position')} open."
    )


BLOCKED = """
SELECT reason, count(*) FROM orders
WHERE deployment_id = ANY(%(deployments)s) AND purpose = 'open' AND state = %(blocked)s
  AND created_at >= %(begin)s AND created_at < %(end)s
GROUP BY reason ORDER BY count(*) DESC, reason
"""


def blocked(deployments: list[int], span: Span) -> str:
    """Return the entries that were blocked, by reason; empty without any."""
    params = {"begin": span.begin, "end": span.end, "deployments": deployments, "blocked": OrderState.BLOCKED}
    rows = _rows(BLOCKED, params)
    if not rows:
        return ""
    listed = [f"{number} × {explain(reason)[0]} ({reason})" for reason, number in rows]
    return f"{_counted(sum(number for _, number in rows), 'entry', 'entries')} blocked: {_some(listed)}."


def authors(deployments: list[int], span: Span) -> str:
    """Return the PnL of the trades that were closed by author; empty without any."""
    found = [part for part in parts.attribution("author", deployments, span.begin, span.end) if part.trades]
    if not found:
        return ""
    best = sorted(found, key=lambda part: -abs(part.net))
    listed = [f"{part.label} {_usdc(part.net)} in {_counted(int(part.trades), 'trade')}" for part in best]
    return f"Trades closed in the week, by author: {_some(listed)}."


@dataclass(frozen=True, slots=True)
class Digest:
    """A kind of digest."""

    event: str
    slot: Callable[[datetime, tzinfo], Span]
    text: Callable[[list[int], Span], str]


DIGESTS = {
    "digest_sentiment": Digest("digest.sentiment", every_four_hours, sentiment),
    "digest_pnl": Digest("digest.pnl", yesterday, pnl),
    "digest_blocked": Digest("digest.blocked", yesterday, blocked),
    "digest_authors": Digest("digest.authors", last_week, authors),
}
"""Kind of notification -> digest."""


def send_due() -> int:
    """Write the digests that are due and not written yet, at most `AT_ONCE`; return how many became a message.

    A user whose digest fails does not keep the others from theirs: it does not count towards `AT_ONCE`, and is tried
    again by the next pass.
    """
    now, written, done_now = clock.now(), 0, 0
    done = set(
        DigestSlot.objects.filter(due_at__gt=now - timedelta(days=8)).values_list("user_id", "kind", "due_at")
    )
    for row in NotificationSettings.objects.filter(user__is_active=True).order_by("pk").iterator(AT_ONCE):
        zone = time_zones.zone(row.time_zone)
        for kind in sorted(_chosen(row) & DIGESTS.keys()):
            span = DIGESTS[kind].slot(now, zone)
            if now - span.due > LATE or (row.pk, kind, span.due) in done:
                continue
            if done_now >= AT_ONCE:
                return written
            try:
                written += _write(row.pk, kind, span)
                done_now += 1
            except Exception:
                log.exception("digest_failed", user=row.pk, kind=kind)
    return written


def _chosen(row: NotificationSettings) -> set[str]:
    """Return the kinds that some channel of the user gets."""
    return {*row.kinds, *(kind for choice in row.by_channel.values() for kind in choice.get("kinds", ()))}


@transaction.atomic
def _write(user: int, kind: str, span: Span) -> bool:
    """Write one digest; False where another pass did, or it says nothing."""
    _, new = DigestSlot.objects.get_or_create(user_id=user, kind=kind, due_at=span.due)
    if not new:
        return False
    own = Deployment.objects.filter(owner_id=user).exclude(state=DeploymentState.DRAFT)
    deployments = list(own.values_list("pk", flat=True))
    text = DIGESTS[kind].text(deployments, span) if deployments else ""
    if text:
        record(DIGESTS[kind].event, get_user_model()(pk=user), owner_id=user, text=text, begin=span.begin.isoformat(),
               end=span.end.isoformat())  # fmt: skip
    return bool(text)


def _rows(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    more = len(listed) - LISTED
    return "; ".join(listed[:LISTED]) + (f"; and {more} more" if more > 0 else "")


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _usdc(amount: Decimal) -> str:
    return f"{amount or ZERO:+.2f} USDC"
