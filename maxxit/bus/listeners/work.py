"""Hand messages to a listener: at least once, in order for each key, and a dead letter after its attempts.

A message that fails waits in `listener_messages`, and later ones of its key wait behind it; those of other keys go on.
"""

import traceback
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import structlog

from maxxit.bus.listeners.base import Inbound, Listener, Source
from maxxit.bus.models import ListenerMessage
from maxxit.core import clock, redact
from maxxit.core.errors import Rejected
from maxxit.core.untrusted import storable
from maxxit.events import log as event_log
from maxxit.postgres.failures import database_is_away

log = structlog.get_logger(__name__)
RETRIED, RETRIED_OF_A_KEY = 500, 20
"""Waiting messages that one step tries again: of all keys together, and of one."""
MAX_ERROR = 4_000


class ListenerWork:
    """Reads one source for one listener, batch by batch."""

    def __init__(
        self,
        name: str,
        handle: Listener,
        source: Source,
        *,
        wants: Sequence[str] = (),
        batch: int = 200,
        attempts: int = 3,
        attempt_seconds: float = 10,
    ) -> None:
        """Args: name: `listener:log`. wants: names or patterns; empty for all."""
        self.name, self._handle, self._source = name, handle, source
        self._wants, self._batch, self._attempts = wants, batch, attempts
        self._pause = timedelta(seconds=attempt_seconds)

    def step(self) -> bool:
        """Retry what is due, then handle the next batch; return whether there may be more. Raises as `Source.read`."""
        self._retry_due()
        batch = self._source.read(self._batch)
        chosen = [one for one in batch if one.error or event_log.wanted(one.name, self._wants)]
        if chosen:
            self._handle_all(chosen)
        self._source.done()
        return len(batch) >= self._batch

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _handle_all(self, batch: Sequence[Inbound]) -> None:
        own = ListenerMessage.objects.filter(listener=self.name)
        known = set(
            own.filter(event_id__in=[one.event_id for one in batch]).values_list("event_id", flat=True)
        )
        keys = {one.key for one in batch}
        held_up = set(own.filter(dead_at=None, key__in=keys).values_list("key", flat=True).distinct())
        for message in batch:
            if message.event_id in known:
                continue  # it was read before a crash and waits, or is a dead letter
            if message.key in held_up:
                self._keep(message, 0, "")
            elif failed := self._failure(message):
                error, final = failed
                if not self._keep(message, 1, error, dead=final or self._attempts == 1):
                    held_up.add(message.key)

    def _retry_due(self) -> None:
        """Try waiting messages again: of each key whose oldest one is due, in order until one fails."""
        left = RETRIED
        for key in self._due_keys():
            rows = ListenerMessage.objects.filter(listener=self.name, dead_at=None, key=key).order_by("pk")
            for row in rows[: min(left, RETRIED_OF_A_KEY)]:
                left -= 1
                if not self._retry(row):
                    break
            if not left:
                break

    def _due_keys(self) -> list[str]:
        """Return the keys whose oldest waiting message is due, those that wait longest first."""
        waiting = ListenerMessage.objects.filter(listener=self.name, dead_at=None)
        oldest = waiting.order_by("key", "pk").distinct("key").values("pk")
        due = waiting.filter(pk__in=oldest, due_at__lte=clock.now()).order_by("due_at", "pk")
        return list(due.values_list("key", flat=True)[:RETRIED])

    def _retry(self, row: ListenerMessage) -> bool:
        """Handle a waiting message again; return whether the next one of its key may follow."""
        failed = self._failure(Inbound(**row.message))
        if failed is None:
            row.delete()
            return True
        now = clock.now()
        row.attempts, row.last_error, row.due_at = row.attempts + 1, failed[0], now + self._pause
        if failed[1] or row.attempts >= self._attempts:
            row.dead_at = now
            log.warning("listener_dead_letter", listener=self.name, event_id=row.event_id)
        row.save(update_fields=["attempts", "last_error", "due_at", "dead_at"])
        return row.dead_at is not None

    def _failure(self, message: Inbound) -> tuple[str, bool] | None:
        """Handle one message; return its error and whether it will always fail, None when it was handled."""
        if message.error:
            return message.error, True
        try:
            self._handle(message)
        except Exception as error:
            if database_is_away(error):
                raise  # no fault of the message
            text = storable(redact.text("".join(traceback.format_exception(error))))
            return text[-MAX_ERROR:], isinstance(error, Rejected)
        return None

    def _keep(self, message: Inbound, attempts: int, error: str, *, dead: bool = False) -> bool:
        """Store a message that could not be handled now; return `dead`."""
        now = clock.now()
        ListenerMessage.objects.get_or_create(
            listener=self.name,
            event_id=message.event_id,
            defaults={
                "key": message.key,
                "message": storable(asdict(message)),
                "attempts": attempts,
                "due_at": now + self._pause if attempts else now,
                "last_error": error,
                "dead_at": now if dead else None,
            },
        )
        return dead


def redrive(ids: Sequence[int]) -> int:
    """Give dead letters their attempts again; return how many."""
    dead = ListenerMessage.objects.filter(pk__in=ids).exclude(dead_at=None)
    return dead.update(dead_at=None, attempts=0, due_at=clock.now())
