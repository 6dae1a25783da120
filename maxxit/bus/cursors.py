"""The position of a relay or listener in the event log."""

from django.db.models import F

from maxxit.bus.models import EventCursor
from maxxit.core import clock


def cursor_of(name: str, newest: int) -> EventCursor:
    """Return the cursor of a relay or listener; a new one begins with the next event."""
    defaults = {"position": newest, "updated_at": clock.now()}
    return EventCursor.objects.get_or_create(name=name, defaults=defaults)[0]


def advance(cursor: EventCursor, position: int, *, sent: int, refused: int = 0) -> None:
    """Move a cursor on, unless a person has set it meanwhile."""
    EventCursor.objects.filter(pk=cursor.pk, position=cursor.position).update(
        position=position,
        sent=F("sent") + sent,
        refused=F("refused") + refused,
        last_error="",
        updated_at=clock.now(),
    )
