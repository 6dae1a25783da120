"""How far each relay and listener is, and the position that an operator sets."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from maxxit.bus.models import EventCursor
from maxxit.bus.policy import policy
from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.events import log
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, write

LATE = timedelta(minutes=5)
"""A relay with an event that waits for longer is reported by doctor."""


@dataclass(frozen=True, slots=True)
class CursorStatus:
    """One relay or listener of the event log."""

    name: str
    position: int
    waiting: int
    """Ids between its position and the newest event: about as many events."""
    late: bool
    """Whether its next event is older than LATE."""
    sent: int
    refused: int
    updated_at: datetime
    last_error: str

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {
            "updated_at": iso_utc(self.updated_at)
        }


def status() -> list[CursorStatus]:
    """Return the status of every relay and listener that has run, those of `config/bus.yaml` first."""
    rules = policy()
    used = {f"relay:{name}" for name in rules.relays} | {f"listener:{name}" for name in rules.listeners}
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    rows = [_status(row, newest) for row in EventCursor.objects.order_by("name")]
    return sorted(rows, key=lambda one: one.name not in used)


def late() -> list[str]:
    """Return a sentence for each configured relay or listener that is late or has never run.

    A listener of another system has no cursor here: that system knows its position.
    """
    rules = policy()
    used = [f"relay:{name}" for name in rules.relays]
    used += [
        f"listener:{name}" for name in rules.listeners if rules.listener_stanzas[name].source == "events"
    ]
    rows = {one.name: one for one in status()}
    return [_sentence(name, rows.get(name)) for name in used if name not in rows or rows[name].late]


def _sentence(name: str, row: CursorStatus | None) -> str:
    if row is None:
        return f"{name} has never run"
    return f"{row.name} has {row.waiting} events waiting{': ' if row.last_error else ''}{row.last_error}"


def rewind(name: str, after: int) -> CursorStatus:
    """Set the position of a relay (`redis` or `relay:redis`) or of a listener (`listener:log`); return its status.

    Raises Rejected for a name that has never run, and for a position past the newest event.
    """
    full = name if ":" in name else f"relay:{name}"
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    if after > newest:
        raise Rejected(f"the newest event is {newest}: give --after {newest} or less", code="bad_number")
    row = EventCursor.objects.filter(pk=full).first()
    if row is None:
        known = ", ".join(EventCursor.objects.values_list("name", flat=True)) or "none has run yet"
        raise Rejected(f"no relay or listener {name!r}; known: {known}", code="not_found")
    EventCursor.objects.filter(pk=full).update(position=after, sent=0, last_error="", updated_at=clock.now())
    row.refresh_from_db()
    write([NewEvent("bus.rewound", f"bus.eventcursor/{full}", None, {"after": after})])
    return _status(row, newest)


def _status(row: EventCursor, newest: int) -> CursorStatus:
    following = log.read(row.position, newest, 1)
    return CursorStatus(
        row.name,
        row.position,
        max(0, newest - row.position),
        bool(following) and following[0].at < clock.now() - LATE,
        row.sent,
        row.refused,
        row.updated_at,
        row.last_error,
    )
