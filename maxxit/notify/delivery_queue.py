"""Queue of due deliveries: claim a batch with one SQL statement, in turn by recipient, and release what was not sent.

A claim postpones `due_at` by `claim_seconds`: until then no other worker can claim the delivery, and if the worker
dies, the delivery becomes due again.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, F, OuterRef

from maxxit.core import clock
from maxxit.notify.models import Delivery, Endpoint
from maxxit.notify.policy import NotifyPolicy
from maxxit.notify.states import DeliveryState
from maxxit.postgres.sessions import own_session

ELIGIBLE = """
WITH recent AS (
    SELECT user_id, channel, count(*) AS sent FROM {table}
    WHERE state = 'sent' AND sent_at > %(now)s - interval '1 minute' GROUP BY 1, 2
), due AS (
    SELECT d.id, d.channel, coalesce(recent.sent, 0) AS sent, coalesce(e.failures, 0) AS failures,
           row_number() OVER (PARTITION BY d.user_id, d.channel ORDER BY d.id) AS turn
    FROM {table} d
    LEFT JOIN recent ON recent.user_id = d.user_id AND recent.channel = d.channel
    LEFT JOIN notify_endpoints e ON e.user_id = d.user_id AND e.channel = d.channel AND e.active
    WHERE d.state = 'pending' AND d.due_at <= %(now)s AND coalesce(e.rests_until, %(now)s) <= %(now)s
      AND (%(channels)s::text[] IS NULL OR d.channel = ANY(%(channels)s))
), eligible AS (
    SELECT *, row_number() OVER (PARTITION BY channel ORDER BY turn, failures > 0, id) AS place FROM due
    WHERE (channel = 'inbox' OR turn + sent <= %(per_minute)s) AND (failures < %(probe_from)s OR turn = 1)
)
"""
"""`turn` numbers the deliveries of each user and channel, `place` those of each channel. A paused endpoint has none;
after a pause it has one, the probe."""

CLAIM = """
, mine AS (
    SELECT d.id, eligible.place FROM {table} d JOIN eligible USING (id)
    WHERE d.state = 'pending' AND d.due_at <= %(now)s
    ORDER BY eligible.place, d.id LIMIT %(most)s FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE {table} d SET attempts = attempts + 1, due_at = %(until)s FROM mine WHERE d.id = mine.id RETURNING d.id
)
SELECT id FROM mine JOIN claimed USING (id) ORDER BY place, id
"""
WAITING = "SELECT EXISTS (SELECT 1 FROM eligible)"


def claim(model: type[Delivery], limits: NotifyPolicy, channels: Collection[str] | None = None) -> list[int]:
    """Claim due deliveries, at most `at_a_time`, of some channels (None: of all); return their ids.

    The channels take turns, and in each every user's first delivery comes before any user's second.
    """
    values = _values(limits) | {"channels": None if channels is None else list(channels)}
    with connection.cursor() as cursor:
        cursor.execute((ELIGIBLE + CLAIM).format(table=model._meta.db_table), values)
        return [pk for (pk,) in cursor]


def waiting(model: type[Delivery], limits: NotifyPolicy) -> bool:
    """Return whether another pass would find deliveries to send now."""
    with connection.cursor() as cursor:
        cursor.execute((ELIGIBLE + WAITING).format(table=model._meta.db_table), _values(limits))
        return bool(cursor.fetchone()[0])


def _values(limits: NotifyPolicy) -> dict[str, Any]:
    now = clock.now()
    return {
        "now": now,
        "until": now + timedelta(seconds=limits.claim_seconds),
        "channels": None,
        "most": limits.at_a_time,
        "per_minute": limits.per_minute,
        "probe_from": limits.breaker_failures,
    }


def release(model: type[Delivery], rows: Iterable[Delivery], due: datetime) -> None:
    """Release claimed deliveries that were not sent: due again at `due`, and the try is not counted."""
    model._default_manager.filter(
        pk__in=[row.pk for row in rows], state=DeliveryState.PENDING, attempts__gt=0
    ).update(attempts=F("attempts") - 1, due_at=due)


def paused() -> Exists:
    """Return the condition that the address of a delivery rests after failures."""
    resting = Endpoint.objects.filter(
        user_id=OuterRef("user_id"), channel=OuterRef("channel"), active=True, rests_until__gt=clock.now()
    )
    return Exists(resting)


def abandoned(model: type[Delivery], limits: NotifyPolicy) -> list[int]:
    """Return deliveries that have been due for `give_up_hours` while their endpoint is paused, at most `at_a_time`."""
    long_due = clock.now() - timedelta(hours=limits.give_up_hours)
    rows = model._default_manager.filter(paused(), state=DeliveryState.PENDING, due_at__lt=long_due)
    return list(rows.order_by("pk").values_list("pk", flat=True)[: limits.at_a_time])


LOCK = "SELECT name, pg_try_advisory_lock(hashtextextended('notify:' || name, 0)) FROM unnest(%s::text[]) AS name"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('notify:' || name, 0)) FROM unnest(%s::text[]) AS name"


def lock_all(names: Iterable[str]) -> set[str]:
    """Take the Postgres advisory locks `names` in one statement; return those that no other session holds."""
    asked = sorted(set(names))
    if not asked:
        return set()
    with own_session().cursor() as cursor:
        cursor.execute(LOCK, [asked])
        return {name for name, acquired in cursor if acquired}


def unlock_all(names: Iterable[str]) -> None:
    """Release locks that `lock_all` took."""
    held = sorted(set(names))
    if held:
        with own_session().cursor() as cursor:
            cursor.execute(UNLOCK, [held])


@contextmanager
def advisory_lock(name: str) -> Iterator[bool]:
    """Hold the Postgres advisory lock `name`; yields False when another session holds it."""
    acquired = name in lock_all([name])
    try:
        yield acquired
    finally:
        if acquired:
            unlock_all([name])
