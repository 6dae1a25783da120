"""Alerts: turn alerting events into one delivery per member of staff and channel.

A user whom an event names as `owner_id` is alerted too. Everyone gets the inbox (the table itself); those who set an
address on another channel get that as well, customers only for the kinds that they chose (`preferences`). Alerts are
written at the start of each pass from the events of the last day, so that neither a lost wake nor downtime loses one.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from maxxit.core import clock
from maxxit.notify import kinds
from maxxit.notify.channels.base import Message
from maxxit.notify.models import Alert

LOOK_BACK = timedelta(days=1)
FOR_CUSTOMERS = ("limits.changed",)
"""Events that also alert every user with a deployment that is not a draft."""
WRITE = """
INSERT INTO alerts (event_id, user_id, channel, at, due_at)
SELECT e.id, u.id, c.channel, e.at, %(now)s
FROM events e
JOIN auth_user u ON u.is_active AND (
    u.is_staff AND NOT e.name = ANY(%(for_owners)s) OR u.id::text = e.data->>'owner_id' OR (
    e.name = ANY(%(for_customers)s) AND EXISTS (
        SELECT FROM agent_deployments d WHERE d.owner_id = u.id AND d.state <> 'draft'
    )
))
CROSS JOIN LATERAL (
    SELECT 'inbox' AS channel UNION SELECT n.channel FROM notify_endpoints n WHERE n.user_id = u.id AND n.active
) AS c
LEFT JOIN notification_settings s ON s.user_id = u.id
WHERE e.name = ANY(%(names)s) AND e.at > %(since)s
  AND (c.channel = 'inbox' OR u.is_staff OR s.user_id IS NULL OR NOT EXISTS (
        SELECT FROM unnest(%(events)s::text[], %(kinds)s::text[]) AS k(event, kind)
        WHERE k.event = e.name AND NOT k.kind = ANY(s.kinds)
  ))
ORDER BY e.id, u.id, c.channel
ON CONFLICT (event_id, user_id, channel) DO NOTHING
"""


def write() -> int:
    """Write the missing alerts; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(WRITE, parameters())
        return int(cursor.rowcount)


def parameters() -> dict[str, Any]:
    """Return the parameters of `WRITE` now."""
    now = clock.now()
    kind_of = [(event, name) for name, kind in kinds.KINDS.items() for event in kind.events]
    return {
        "names": [*settings.ALERTS, *kinds.FOR_OWNERS],
        "for_owners": list(kinds.FOR_OWNERS),
        "events": [event for event, _ in kind_of],
        "kinds": [name for _, name in kind_of],
        "for_customers": list(FOR_CUSTOMERS),
        "now": now,
        "since": now - LOOK_BACK,
    }


def text_of(row: Alert) -> str:
    """Return the event in one line; of a test message its text."""
    event = row.event
    if event.name in kinds.TESTS:
        return str(event.data.get("text", ""))
    summary = ", ".join(f"{name} {value}" for name, value in event.data.items() if name != "owner_id")
    name = event.name.replace("_", " ").replace(".", " ")
    return f"{name} ({event.subject}): {summary}" if summary else f"{name} ({event.subject})"


def message_of(row: Alert, address: str, secret: str) -> Message:
    """Build the message: the event in one line, and its data."""
    event = row.event
    data = {name: value for name, value in event.data.items() if name != "owner_id"}
    return Message(
        ident=f"a_{row.pk}",
        name=event.name,
        at=event.at.isoformat(),
        user=row.user.get_username(),
        text=text_of(row),
        data={"subject": event.subject} | data,
        address=address,
        secret=secret,
    )
