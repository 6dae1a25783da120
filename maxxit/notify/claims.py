"""Which deliveries a pass may send: claimed in one statement, in a fair order, and given back unsent.

A claim moves `due_at` ahead by `claim_seconds`, so a worker that dies leaves its deliveries to a later pass and two
workers never hold the same one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, F, OuterRef

from maxxit.core import clock
from maxxit.market.models import Delivery
from maxxit.market.states import DeliveryState
from maxxit.notify.models import Endpoint
from maxxit.notify.policy import NotifyPolicy

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
), eligible AS (
    SELECT * FROM due
    WHERE (channel = 'inbox' OR turn + sent <= %(per_minute)s) AND (failures < %(probe_from)s OR turn = 1)
)
"""
"""The n-th delivery of each person and channel is their n-th turn. A resting endpoint has none; one that rested has
one turn, its probe."""

CLAIM = """
, mine AS (
    SELECT d.id, eligible.turn, eligible.failures FROM {table} d JOIN eligible USING (id)
    WHERE d.state = 'pending' AND d.due_at <= %(now)s
    ORDER BY eligible.turn, eligible.failures > 0, d.id LIMIT %(most)s FOR UPDATE OF d SKIP LOCKED
), claimed AS (
    UPDATE {table} d SET attempts = attempts + 1, due_at = %(until)s FROM mine WHERE d.id = mine.id RETURNING d.id
)
SELECT id FROM mine JOIN claimed USING (id) ORDER BY turn, failures > 0, id
"""
WAITING = "SELECT EXISTS (SELECT 1 FROM eligible)"


def claim(model: type[Delivery], rules: NotifyPolicy) -> list[int]:
    """Claim what is due, at most `at_a_time`; returns the ids, everyone's first turn before anyone's second."""
    with connection.cursor() as cursor:
        cursor.execute((ELIGIBLE + CLAIM).format(table=model._meta.db_table), _values(rules))
        return [pk for (pk,) in cursor]


def waiting(model: type[Delivery], rules: NotifyPolicy) -> bool:
    """Whether another pass would find something to send now."""
    with connection.cursor() as cursor:
        cursor.execute((ELIGIBLE + WAITING).format(table=model._meta.db_table), _values(rules))
        return bool(cursor.fetchone()[0])


def _values(rules: NotifyPolicy) -> dict[str, Any]:
    now = clock.now()
    return {
        "now": now,
        "until": now + timedelta(seconds=rules.claim_seconds),
        "most": rules.at_a_time,
        "per_minute": rules.per_minute,
        "probe_from": rules.breaker_failures,
    }


def release(model: type[Delivery], rows: Sequence[Delivery], due: datetime) -> None:
    """Give back claimed deliveries that were not sent: due again at `due`, with the try that the claim counted."""
    model._default_manager.filter(
        pk__in=[row.pk for row in rows], state=DeliveryState.PENDING, attempts__gt=0
    ).update(attempts=F("attempts") - 1, due_at=due)


def abandoned(model: type[Delivery], rules: NotifyPolicy) -> list[int]:
    """Deliveries that have been due for `give_up_hours` while their endpoint rests, at most `at_a_time`."""
    now = clock.now()
    resting = Endpoint.objects.filter(
        user_id=OuterRef("user_id"), channel=OuterRef("channel"), active=True, rests_until__gt=now
    )
    rows = model._default_manager.filter(
        Exists(resting), state=DeliveryState.PENDING, due_at__lt=now - timedelta(hours=rules.give_up_hours)
    )
    return list(rows.order_by("pk").values_list("pk", flat=True)[: rules.at_a_time])


@contextmanager
def held(name: str) -> Iterator[bool]:
    """Hold the advisory lock `name` of this database session; yields False when another session holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"notify:{name}"])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [f"notify:{name}"])
