"""Alerts: turn alerting events into one delivery per recipient and channel.

Staff is alerted, and the users whom an event names as `owner_id` or in the list `owner_ids`. Everyone gets the inbox
(the table itself: nothing is sent); those who set an address on another channel get that as well, customers only for
the kinds that they chose (`preferences`). Alerts are written at the start of each pass from the events of the last day
that have none yet, so that neither a lost wake nor downtime loses one.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import connection
from django.db.models import F, JSONField, TextField, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Cast

from maxxit.core import clock
from maxxit.core.money import brief
from maxxit.events.models import Event
from maxxit.notify import kinds
from maxxit.notify.channels.base import Message
from maxxit.notify.models import Alert, AlertedEvent

LOOK_BACK = timedelta(days=1)
OWNERS = frozenset({"owner_id", "owner_ids"})
"""Data of events that name users: no message shows it."""
FOR_CUSTOMERS = ("limits.changed",)
"""Events that also alert every user with a deployment that is not a draft."""
WRITE = """
WITH fresh AS (
    INSERT INTO alerted_events (event_id, at)
    SELECT e.id, %(now)s FROM events e
    WHERE e.name = ANY(%(names)s) AND e.at > %(since)s
      AND NOT EXISTS (SELECT FROM alerted_events a WHERE a.event_id = e.id)
    ORDER BY e.id
    ON CONFLICT DO NOTHING
    RETURNING event_id
), e AS MATERIALIZED (
    SELECT events.* FROM events JOIN fresh ON fresh.event_id = events.id
), recipients AS (
    SELECT e.id AS event_id, u.id AS user_id FROM e JOIN auth_user u ON u.is_staff
    WHERE NOT e.name = ANY(%(for_owners)s)
    UNION
    SELECT id, (data->>'owner_id')::bigint FROM e WHERE jsonb_typeof(data->'owner_id') = 'number'
    UNION
    SELECT e.id, owner::bigint FROM e, jsonb_array_elements_text(
        CASE jsonb_typeof(data->'owner_ids') WHEN 'array' THEN data->'owner_ids' ELSE '[]' END
    ) AS owner
    UNION
    SELECT e.id, d.owner_id FROM e JOIN agent_deployments d ON d.state <> 'draft' AND d.owner_id IS NOT NULL
    WHERE e.name = ANY(%(for_customers)s)
)
INSERT INTO alerts (event_id, user_id, channel, at, due_at, state, sent_at)
SELECT e.id, u.id, c.channel, e.at, %(now)s, CASE c.channel WHEN 'inbox' THEN 'sent' ELSE 'pending' END,
       CASE c.channel WHEN 'inbox' THEN %(now)s END
FROM recipients r
JOIN e ON e.id = r.event_id
JOIN auth_user u ON u.id = r.user_id AND u.is_active
CROSS JOIN LATERAL (
    SELECT 'inbox' AS channel UNION
    SELECT n.channel FROM notify_endpoints n WHERE n.user_id = u.id AND n.active AND n.verified_at IS NOT NULL
) AS c
LEFT JOIN notification_settings s ON s.user_id = u.id
WHERE (c.channel = 'inbox' OR u.is_staff AND NOT e.name = ANY(%(for_owners)s) OR NOT EXISTS (
        SELECT FROM unnest(%(events)s::text[], %(kinds)s::text[]) AS k(event, kind)
        WHERE k.event = e.name AND NOT coalesce(
            s.by_channel #> ARRAY[c.channel::text, 'kinds'], to_jsonb(s.kinds), to_jsonb(%(default)s::text[])
        ) ? k.kind
  ))
  AND (c.channel = 'inbox' OR CASE WHEN e.name = ANY(%(critical)s) THEN 2 WHEN e.name = ANY(%(calm)s) THEN 0 ELSE 1 END
        >= coalesce(array_position(%(severities)s::text[], s.by_channel #>> ARRAY[c.channel::text, 'severity']) - 1, 0))
ORDER BY e.id, u.id, c.channel
ON CONFLICT (event_id, user_id, channel) DO NOTHING
"""


def write() -> int:
    """Write the missing alerts; return how many."""
    with connection.cursor() as cursor:
        cursor.execute(WRITE, parameters())
        return int(cursor.rowcount)


def forget(now: datetime) -> None:
    """Delete the marks of events that are older than `write` looks back."""
    AlertedEvent.objects.filter(at__lt=now - 2 * LOOK_BACK).delete()


def prune(before: datetime) -> int:
    """Delete alerts older than `before`, their events stay; return how many rows."""
    return Alert.objects.filter(at__lt=before).delete()[0]


def parameters() -> dict[str, Any]:
    """Return the parameters of `WRITE` now."""
    now = clock.now()
    kind_of = [(event, name) for name, kind in kinds.KINDS.items() for event in kind.events]
    return {
        "names": [*settings.ALERTS, *kinds.FOR_OWNERS],
        "for_owners": list(kinds.FOR_OWNERS),
        "events": [event for event, _ in kind_of],
        "kinds": [name for _, name in kind_of],
        "default": kinds.DEFAULT,
        "for_customers": list(FOR_CUSTOMERS),
        "critical": list(kinds.CRITICAL),
        "calm": list(kinds.CALM),
        "severities": list(kinds.SEVERITIES),
        "now": now,
        "since": now - LOOK_BACK,
    }


def _shown(data: dict[str, Any], name: str) -> str:
    """Return a decimal of an event as people read it."""
    return brief(Decimal(str(data[name])))


TEXTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "check.failing": lambda data: "{check}: {detail}. {fix}".format_map(
        {"detail": "", "fix": ""} | data
    ).strip(),
    "check.recovered": lambda data: f"{data['check']} passes again",
    # Of a rule whose channel gave it up.
    "rule.matched": lambda data: f"{data['symbol']} is at {data['price']} USD (rule {data['rule']})",
    "position.open": lambda data: (
        f"{data['side'].capitalize()} {data['symbol']} opened at {_shown(data, 'entry')} USD"
    ),
    "position.closed": lambda data: (
        f"{data['side'].capitalize()} {data['symbol']} closed by {data.get('why', '').replace('_', ' ')}: "
        f"profit or loss {Decimal(str(data['realised_pnl'])):+.2f} USDC"
    ),
    "position.stop_moved": lambda data: (
        f"The trailing stop of {data['side']} {data['symbol']} is at {_shown(data, 'stop')} USD"
        + (f", before {_shown(data, 'before')}" if data.get("before") else "")
        + f"; the entry was at {_shown(data, 'entry')} USD"
    ),
}
"""Event -> its data in one line, where the data holds no text."""


def load_events(rows: Iterable[Alert]) -> None:
    """Load the events of alerts, each event once, without the users that it names: they may be tens of thousands."""
    waiting = list(rows)
    unnamed = CombinedExpression(
        F("data"), "-", Cast(Value(sorted(OWNERS)), ArrayField(TextField())), output_field=JSONField()
    )
    events = Event.objects.defer("data").annotate(shown=unnamed)
    found: dict[int, Any] = events.in_bulk({row.event_id for row in waiting})
    for event in found.values():
        event.data = event.shown
    for row in waiting:
        row.event = found[row.event_id]


def text_of(row: Alert) -> str:
    """Return the event in one line: its own text where it has one, else its data."""
    event = row.event
    if event.name in kinds.TESTS or "text" in event.data:
        return str(event.data.get("text", ""))
    if event.name in TEXTS:
        return TEXTS[event.name](event.data)
    summary = ", ".join(f"{name} {value}" for name, value in event.data.items() if name not in OWNERS)
    name = event.name.replace("_", " ").replace(".", " ")
    return f"{name} ({event.subject}): {summary}" if summary else f"{name} ({event.subject})"


def message_of(row: Alert) -> Message:
    """Build the message: the event in one line, and its data; the worker adds the address."""
    event = row.event
    data = {name: value for name, value in event.data.items() if name not in OWNERS}
    return Message(
        ident=f"a_{row.pk}",
        name=event.name,
        at=event.at.isoformat(),
        user=row.user.get_username(),
        text=text_of(row),
        data={"subject": event.subject} | data,
        title=title_of(event.name),
        severity=kinds.severity(event.name),
    )


def title_of(event: str) -> str:
    """Return what kind of message an event is, in a few words."""
    if event == kinds.CODE:
        return "Confirm this address"
    if event == "rule.matched":
        return "Price rule"
    return "Test message" if event in kinds.TESTS else kinds.title(event)
