"""Send due deliveries: claim a bounded batch, send it, mark each delivery sent, due later or dead.

No user delays another. Only the sends run on threads; messages are built and results stored by the pass itself. The
deliveries to one endpoint form a lane: one send at a time, ended by the first failure, by `endpoint_seconds` or with
the pass. An endpoint that keeps failing is paused by its circuit breaker (`breaker`). Staff alerts have a separate
pass, which never waits for price rules. A message sent just before a worker died is sent again: receivers drop
duplicates by the delivery's id.
"""

import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db.models import Exists, OuterRef

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable, StaleState
from maxxit.core.money import plain
from maxxit.events import wake
from maxxit.events.record import advance, advance_all
from maxxit.notify import alerts, breaker, delivery_queue, endpoints, kinds, preferences, rules
from maxxit.notify.channels import CHANNELS
from maxxit.notify.channels.base import Message
from maxxit.notify.models import Alert, Delivery, Endpoint, NotificationSettings, RuleDelivery
from maxxit.notify.policy import NotifyPolicy, policy
from maxxit.notify.states import DeliveryState

log = structlog.get_logger(__name__)
ALERT_TASK, DELIVER_TASK = "maxxit.notify.tasks.alert", "maxxit.notify.tasks.deliver"


@dataclass
class DeliveryResult:
    """Counts of one pass."""

    sent: int = 0
    later: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one send."""

    seconds: float
    error: Exception | None = None


@dataclass
class Lane:
    """The claimed deliveries of one user on one channel, in order."""

    endpoint: Endpoint | None
    """None for a channel without an address."""
    rows: deque[Delivery] = field(default_factory=deque)
    seconds: float = 0.0
    """Time spent sending in this pass."""


def deliver() -> DeliveryResult:
    """Send the due staff alerts, then the due deliveries of price rules, each in one pass."""
    result = deliver_alerts()
    _pass(RuleDelivery, ("rule", "match"), DELIVER_TASK, result)
    return result


def deliver_alerts() -> DeliveryResult:
    """Send the due staff alerts in one pass."""
    result = DeliveryResult()
    alerts.write()
    _pass(Alert, ("event",), ALERT_TASK, result)
    return result


def _pass(model: type[Delivery], related: tuple[str, ...], task: str, result: DeliveryResult) -> None:
    """Run one pass over one kind of delivery unless another worker does; wake `task` when more is due."""
    limits, name = policy(), model._meta.db_table
    with delivery_queue.advisory_lock(name) as acquired:
        if not acquired:
            return
        _give_up(model, limits, result)
        ids = delivery_queue.claim(model, limits)
        rows = model._default_manager.select_related("user", *related).in_bulk(ids)
        Pass(model, limits, result).send(rows[pk] for pk in ids if pk in rows)
    # After the lock is released: a worker that found it taken relies on this wake.
    if ids and delivery_queue.waiting(model, limits):
        wake.wake_task(task)


class Pass:
    """Sends claimed deliveries: endpoints in parallel, one message at a time to each."""

    def __init__(self, model: type[Delivery], limits: NotifyPolicy, result: DeliveryResult) -> None:
        self._model, self._limits, self._result = model, limits, result
        self._ends = time.monotonic() + limits.pass_seconds
        self._running: dict[Future[Attempt | None], tuple[Lane, Delivery]] = {}

    def send(self, rows: Iterable[Delivery]) -> None:
        """Send as many as the limits of a pass allow; release the rest."""
        with ThreadPoolExecutor(self._limits.at_once) as pool, ExitStack() as locks:
            for lane in self._lanes(rows, locks):
                self._start(pool, lane)
            while self._running:
                finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
                for future in finished:
                    lane, row = self._running.pop(future)
                    if self._finish(lane, row, future.result()):
                        self._start(pool, lane)

    def _lanes(self, rows: Iterable[Delivery], locks: ExitStack) -> list[Lane]:
        """Group rows into one lane per user and channel; skip an endpoint that another pass is sending to."""
        lanes: dict[tuple[int, str], Lane] = {}
        for row in self._outside_quiet_hours(list(rows)):
            key = (row.user_id, row.channel)
            if key not in lanes:
                lanes[key] = Lane(endpoints.current(row.user, row.channel))
            lanes[key].rows.append(row)
        free = []
        for lane in lanes.values():
            if lane.endpoint is None or locks.enter_context(
                delivery_queue.advisory_lock(f"endpoint:{lane.endpoint.pk}")
            ):
                free.append(lane)
            else:
                self._release(lane.rows, clock.now() + timedelta(seconds=self._limits.first_wait_seconds))
        return free

    def _outside_quiet_hours(self, rows: list[Delivery]) -> list[Delivery]:
        """Return the deliveries that may be sent now; the others are due when their user's quiet hours end."""
        quiet, now = NotificationSettings.objects.in_bulk({row.user_id for row in rows}), clock.now()
        held: dict[datetime, list[Delivery]] = {}
        passing = []
        for row in rows:
            until = (
                None if _ignores_quiet_hours(row) else preferences.quiet_until(quiet.get(row.user_id), now)
            )
            if until is None:
                passing.append(row)
            else:
                held.setdefault(until, []).append(row)
        for until, waiting in held.items():
            self._release(waiting, until)
        return passing

    def _start(self, pool: ThreadPoolExecutor, lane: Lane) -> None:
        """Submit the lane's next delivery to a thread; deliveries that can never be sent are marked dead."""
        while lane.rows:
            row = lane.rows.popleft()
            try:
                if row.attempts > self._limits.tries:  # the worker died at every try
                    raise Rejected("the worker ended while it was sending")
                message = message_of(row)
            except (Rejected, Misconfigured) as error:
                self._store(row, error)
                continue
            job = pool.submit(copy_context().run, _send, row.channel, message, self._ends)
            self._running[job] = (lane, row)
            return

    def _finish(self, lane: Lane, row: Delivery, attempt: Attempt | None) -> bool:
        """Store the outcome of a send; return whether the lane continues."""
        now, limits = clock.now(), self._limits
        if attempt is None:  # the pass ended before its turn
            self._release([row, *lane.rows], now)
            return False
        self._store(row, attempt.error)
        lane.seconds += attempt.seconds
        failed = attempt.error is not None and not isinstance(attempt.error, (Rejected, Misconfigured))
        if lane.endpoint is not None:
            if failed:
                breaker.failed(lane.endpoint, limits)
            else:
                breaker.answered(lane.endpoint)
            if failed or lane.seconds >= limits.endpoint_seconds:
                self._release(lane.rows, now + timedelta(seconds=0 if failed else limits.first_wait_seconds))
                return False
        return True

    def _release(self, rows: Iterable[Delivery], due: datetime) -> None:
        delivery_queue.release(self._model, list(rows), due)

    def _store(self, row: Delivery, error: Exception | None) -> None:
        try:
            _store(row, error, self._limits, self._result)
        except StaleState:
            log.info("delivery_already_moved", delivery=str(row))


def _ignores_quiet_hours(row: Delivery) -> bool:
    """Return whether nobody is woken by it, as in the inbox, or it is critical."""
    return row.channel == "inbox" or (isinstance(row, Alert) and row.event.name in kinds.CRITICAL)


def _send(channel: str, message: Message, ends: float) -> Attempt | None:
    """Send one message, on a thread; None when `ends` (monotonic seconds) has passed already."""
    began = time.monotonic()
    if began >= ends:
        return None
    try:
        CHANNELS.open(channel).send(message)
    except Exception as error:  # also a bug in one channel, which must not stop the others
        return Attempt(time.monotonic() - began, error)
    return Attempt(time.monotonic() - began)


def _store(row: Delivery, error: Exception | None, limits: NotifyPolicy, result: DeliveryResult) -> None:
    """Move a delivery to sent or dead, or make it due later. Raises StaleState when another worker moved it."""
    if error is None:
        advance(row, DeliveryState.SENT, sent_at=clock.now(), last_error="", data={"attempts": row.attempts})
        result.sent += 1
    elif isinstance(error, (Rejected, Misconfigured)) or row.attempts >= limits.tries:
        reason = _reason(error)
        advance(row, DeliveryState.DEAD, why=reason[:200], last_error=reason, data={"attempts": row.attempts})
        result.dead += 1
    else:
        after = error.after if isinstance(error, Retryable) else None
        seconds = min(after or limits.first_wait_seconds * 2 ** (row.attempts - 1), limits.most_wait_seconds)
        type(row)._default_manager.filter(pk=row.pk, state=DeliveryState.PENDING).update(
            due_at=clock.now() + timedelta(seconds=seconds), last_error=_reason(error)
        )
        result.later += 1
        log.warning(
            "delivery_failed",
            delivery=str(row),
            channel=row.channel,
            error=str(error),
            again_in=round(seconds),
        )


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}"
    return redact.text(text)[:1000]


def _give_up(model: type[Delivery], limits: NotifyPolicy, result: DeliveryResult) -> None:
    """Mark deliveries dead that have waited too long for a paused endpoint."""
    reason = f"the endpoint has not answered for {limits.give_up_hours} hours"
    ids = delivery_queue.abandoned(model, limits)
    result.dead += len(
        advance_all(model, ids, DeliveryState.PENDING, DeliveryState.DEAD, why=reason, last_error=reason)
    )


def message_of(row: Delivery) -> Message:
    """Build the message of a delivery. Raises Rejected when the user has removed the address."""
    address, secret = endpoints.address_of(row.user, row.channel)
    if isinstance(row, Alert):
        return alerts.message_of(row, address, secret)
    if isinstance(row, RuleDelivery):
        return _of_rule(row, address, secret)
    raise TypeError(f"unknown kind of delivery: {type(row).__name__}")


def text_of(row: Delivery) -> str:
    """Return what a delivery says, in one line."""
    if isinstance(row, Alert):
        return alerts.text_of(row)
    if isinstance(row, RuleDelivery):
        rule, match = row.rule, row.match
        return f"{row.symbol} is at {plain(match.price)} USD ({rules.condition_text(rule)})"
    raise TypeError(f"unknown kind of delivery: {type(row).__name__}")


def _of_rule(row: RuleDelivery, address: str, secret: str) -> Message:
    rule, match = row.rule, row.match
    return Message(
        ident=f"d_{row.pk}",
        name="rule.matched",
        at=match.at.isoformat(),
        user=row.user.get_username(),
        text=text_of(row),
        data={
            "rule": rule.rule_id,
            "symbol": row.symbol,
            "condition": rule.condition,
            "threshold": plain(rule.threshold) if rule.threshold else None,
            "price": plain(match.price),
            "value": plain(match.value),
        },
        address=address,
        secret=secret,
    )


def redrive(model: type[Delivery], ids: list[int]) -> int:
    """Make dead deliveries due now with all their tries, and resume their endpoints; return how many."""
    moved = advance_all(model, ids, DeliveryState.DEAD, DeliveryState.PENDING, attempts=0, due_at=clock.now())
    redriven = model._default_manager.filter(
        pk__in=moved, user_id=OuterRef("user_id"), channel=OuterRef("channel")
    )
    Endpoint.objects.filter(Exists(redriven), active=True).update(rests_until=None)
    return len(moved)
