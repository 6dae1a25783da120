"""The position of a relay or listener in the event log."""

from django.db.models import F

from maxxit.bus.models import EventCursor
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.events.models import Event


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


def refuse_restored(cursor: EventCursor, newest: int) -> None:
    """Raise Rejected for a position past the end of the event log: what is written next would be skipped.

    Args:
        newest: id of the newest event at the last look, 0 for none; it is read again before anything is refused.
    """
    if cursor.position > newest > 0:
        newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        if cursor.position > newest > 0:
            raise log_is_behind(cursor.name, cursor.position, newest, "its cursor is at")


def log_is_behind(name: str, position: int, newest: int, what: str) -> Rejected:
    """Return the error of a log that was restored to an earlier point: it assigns ids again that were used before."""
    after = min(position, newest)
    return Rejected(
        f"{what} event {position}, and the event log ends at {newest}: was the database restored? Continue with "
        f"`manage.py bus rewind {name.removeprefix('relay:')} --after {after}`; move a file of events away first",
        code="log_is_behind",
    )
