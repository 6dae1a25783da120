"""Run the relays and listeners of `config/bus.yaml`, each in a thread of its own: none waits for another.

A thread holds a Postgres advisory lock, so that of several processes one does the work and another takes over when it
ends. Errors of the other system and of the database are logged, stored with the cursor, and retried for ever.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from django.db import Error as DatabaseError
from django.db import connections

from maxxit.bus import updates
from maxxit.bus.cursors import advance, cursor_of, log_is_behind, refuse_restored
from maxxit.bus.listeners import listener
from maxxit.bus.listeners.sources import open_source
from maxxit.bus.listeners.work import ListenerWork
from maxxit.bus.models import EventCursor
from maxxit.bus.policy import BusPolicy
from maxxit.bus.relays import RELAYS
from maxxit.bus.relays.base import Relay
from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Rejected
from maxxit.events import log
from maxxit.market.stream.backoff import delay
from maxxit.postgres.sessions import own_session

logger = structlog.get_logger(__name__)
TICKER_SECONDS = 1.0
LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
LEADER_SECONDS = 1.0
"""How often a process that waits asks whether the leading one has ended."""


class Work(Protocol):
    """What a thread does over and over."""

    name: str

    def step(self) -> bool:
        """Do one batch; return whether there was anything to do."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


@dataclass
class RelayWork:
    """Publishes the event log to one relay, batch by batch, from its cursor."""

    name: str
    relay: Relay
    final: log.FinalId
    batch: int
    _tickers: dict[str, str] = field(default_factory=dict)
    _tickers_at: float = float("-inf")

    def step(self) -> bool:
        """Publish the next batch and the newest prices. Raises what the relay raises."""
        final = self.final.read()
        cursor = cursor_of(self.name, final)
        refuse_restored(cursor, self.final.newest)
        events = log.read(cursor.position, final, self.batch)
        reached = self._send(cursor, events, final) if events else final
        self._publish_tickers()
        return reached != (events[-1].id if events else final) or len(events) == self.batch

    def close(self) -> None:
        """See `Relay.close`."""
        self.relay.close()

    def _send(self, cursor: EventCursor, events: list[log.LoggedEvent], final: int) -> int:
        """Publish a batch and move the cursor; return its new position."""
        if not cursor.sent:
            self.relay.begin(cursor.position)
        messages = updates.messages(events)
        refused = 0
        try:
            reached = self.relay.send(messages, cursor.position, events[-1].id)
        except Rejected as error:
            if len(events) > 1:
                # One that is refused costs only itself.
                return [self._send(cursor_of(self.name, final), [event], final) for event in events][-1]
            logger.warning("event_refused", relay=self.name, event_id=events[0].id, error=str(error))
            reached, refused = events[-1].id, len(messages)
        if reached > final:
            raise log_is_behind(self.name, reached, final, "the other system already has")
        if cursor.position < reached != events[-1].id and not self._has_ours(reached):
            raise log_is_behind(self.name, reached, final, "the other system has another")
        advance(cursor, reached, sent=len(messages) - refused, refused=refused)
        return reached

    def _has_ours(self, reached: int) -> bool:
        """Return whether the other system's event of that id is the one of our log, as far as it can tell."""
        theirs = self.relay.newest()
        marks = (
            one.mark for one in updates.messages(log.read(reached - 1, reached, 1)) if one.topic == "events"
        )
        return not theirs or theirs in marks

    def _publish_tickers(self) -> None:
        now = clock.now().timestamp()
        if now - self._tickers_at < TICKER_SECONDS:
            return
        self._tickers_at, known = now, dict(self._tickers)
        if made := updates.tickers(known):
            self.relay.publish(made)
        self._tickers = known


class Worker(threading.Thread):
    """Repeats the steps of one piece of work until `stop` is set."""

    def __init__(
        self, name: str, make: Callable[[], Work], stop: threading.Event, *, idle: float, longest_wait: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._make, self._stop_event, self._idle, self._longest = make, stop, idle, longest_wait
        self.failures = 0
        self._work: Work | None = None
        self._leads = False

    def run(self) -> None:
        """Work until `stop` is set."""
        while not self._stop_event.is_set():
            pause = self._attempt()
            if pause:
                self._stop_event.wait(pause)
        self._release()

    def _attempt(self) -> float:
        """Do one step; return seconds to wait before the next."""
        try:
            if not self._leads and not self._lead():
                return LEADER_SECONDS
            if self._work is None:
                self._work = self._make()
            more = self._work.step()
        except DatabaseError as error:
            self._failed(error)
            self._release()
        except Exception as error:
            self._failed(error)
            self._close_work()  # what was read and not finished is read again
            _store(self.name, error)
        else:
            self.failures = 0
            return 0 if more else self._idle
        return delay(self.failures - 1, base=0.5, most=self._longest)

    def _lead(self) -> bool:
        with own_session().cursor() as cursor:
            cursor.execute(LOCK, [f"bus:{self.name}"])
            self._leads = bool(cursor.fetchone()[0])
        return self._leads

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures in (1, 10) or self.failures % 100 == 0:
            known = isinstance(error, MaxxitError | DatabaseError)
            logger.warning(
                "bus_failed", name=self.name, failures=self.failures, error=_text(error), exc_info=not known
            )

    def _release(self) -> None:
        """Close everything; the lock ends with the connection."""
        self._leads = False
        self._close_work()
        for one in connections.all(initialized_only=True):
            one.close()

    def _close_work(self) -> None:
        work, self._work = self._work, None
        try:
            if work is not None:
                work.close()
        except Exception as error:
            logger.warning("bus_not_closed", name=self.name, error=_text(error))


def _text(error: Exception) -> str:
    return redact.text(f"{error}" if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}")[
        :1000
    ]


def _store(name: str, error: Exception) -> None:
    try:
        EventCursor.objects.filter(pk=name).update(last_error=_text(error), updated_at=clock.now())
    except DatabaseError as failed:
        logger.warning("bus_error_not_stored", name=name, error=str(failed))


def workers(policy: BusPolicy, stop: threading.Event) -> list[Worker]:
    """Return a thread for each relay and listener that is configured. Raises Misconfigured for unknown adapters."""
    redact.know_environment()
    idle = policy.idle_ms / 1000
    final = log.FinalId(every=idle / 2)

    def relay(name: str) -> Callable[[], Work]:
        stanza = policy.stanzas[name]
        RELAYS.load(stanza.adapter)  # what is missing is said at the start
        return lambda: RelayWork(
            f"relay:{name}", RELAYS.open(stanza.adapter, **stanza.options), final, policy.batch
        )

    def listening(name: str) -> Callable[[], Work]:
        stanza = policy.listener_stanzas[name]
        handle = listener(stanza.adapter)
        return lambda: ListenerWork(
            f"listener:{name}",
            handle,
            open_source(stanza.source, name, stanza.options, final),
            wants=stanza.wants,
            attempts=policy.attempts,
            attempt_seconds=policy.attempt_seconds,
        )

    made = {f"relay:{name}": relay(name) for name in policy.relays}
    made |= {f"listener:{name}": listening(name) for name in policy.listeners}
    return [
        Worker(name, make, stop, idle=idle, longest_wait=float(policy.retry_seconds))
        for name, make in made.items()
    ]
