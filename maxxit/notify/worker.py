"""Send due deliveries: claim a bounded batch, send it, mark each delivery sent, due later or dead.

No user delays another. Only the sends run on threads; messages are built and results stored by the pass itself. The
deliveries to one endpoint form a lane: one send at a time, ended by the first failure, by `endpoint_seconds` or with
the pass. An endpoint that keeps failing is paused by its circuit breaker (`breaker`). Staff alerts have a separate
pass, which never waits for price rules. A message that a provider took just before a worker died is not sent again
where its receipt (`receipts`) was kept; otherwise it is, and receivers drop duplicates by the delivery's id.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef

from maxxit.core import clock, redact
from maxxit.core.errors import MaxxitError, Misconfigured, Rejected, Retryable, StaleState
from maxxit.core.money import plain
from maxxit.events import wake
from maxxit.events.record import Transition, advance, advance_all, advance_each
from maxxit.notify import (
    alerts,
    breaker,
    delivery_queue,
    endpoints,
    fallback,
    kinds,
    preferences,
    receipts,
    rules,
)
from maxxit.notify.channels import CHANNELS
from maxxit.notify.channels.base import GONE, Message
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


@dataclass(eq=False)
class Lane:
    """The claimed deliveries of one user on one channel, in order."""

    endpoint: Endpoint | None
    """None for a channel without an address."""
    rows: deque[Delivery] = field(default_factory=deque)
    seconds: float = 0.0
    """Time spent sending in this pass."""
    locked: bool = False
    """Whether this pass holds the endpoint's lock."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A send that has ended."""

    lane: Lane
    row: Delivery
    attempt: Attempt | None
    """None where the pass ended before its turn."""


def deliver() -> DeliveryResult:
    """Send the due staff alerts, then the due deliveries of price rules, each in one pass."""
    result = deliver_alerts()
    _pass(RuleDelivery, ("rule", "match"), DELIVER_TASK, result)
    return result


def deliver_alerts() -> DeliveryResult:
    """Send the due staff alerts in one pass."""
    result = DeliveryResult()
    alerts.write()
    _pass(Alert, (), ALERT_TASK, result)
    return result


def _pass(model: type[Delivery], related: tuple[str, ...], task: str, result: DeliveryResult) -> None:
    """Run one pass over one kind of delivery unless another worker does; wake `task` when more is due."""
    limits, name = policy(), model._meta.db_table
    with delivery_queue.advisory_lock(name) as acquired:
        if not acquired:
            return
        _give_up(model, limits, result)
        claimed = Pass(model, related, limits, result).send()
    # After the lock is released: a worker that found it taken relies on this wake.
    if claimed and delivery_queue.waiting(model, limits):
        wake.wake_task(task)


class Pass:
    """Claims and sends deliveries: channels and endpoints in parallel, one message at a time to each endpoint.

    A channel has threads of its own and claims more when it has sent what it had, so that a slow one delays no other.
    Statements are over batches: those that are claimed together, and those whose sends have ended meanwhile.
    """

    def __init__(
        self, model: type[Delivery], related: tuple[str, ...], limits: NotifyPolicy, result: DeliveryResult
    ) -> None:
        self._model, self._related, self._limits, self._result = model, related, limits, result
        self._ends = time.monotonic() + limits.pass_seconds
        self._running: dict[Future[Attempt | None], tuple[Lane, Delivery]] = {}
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._longest: dict[str, float] = {}
        """Channel -> seconds of its longest send: none is started that would outlast the pass."""
        self._slots: dict[str, float] = {}
        """Channel with a rate limit -> when its next message may leave, in monotonic seconds."""

    def send(self) -> int:
        """Claim and send until nothing is due or the pass ends; return how many deliveries were claimed."""
        with ExitStack() as held:
            held.callback(lambda: self._unlock(self._lanes.values()))
            claimed, busy = self._claim(None, held)
            total = claimed
            while self._running:
                ended, _ = wait(self._running, return_when=FIRST_COMPLETED)
                finished = [Finished(*self._running.pop(future), future.result()) for future in ended]
                going_on = self._finish(finished)
                self._unlock(
                    one.lane for one in finished if not (one.lane in going_on and self._start(one.lane))
                )
                idle = busy - {row.channel for _, row in self._running.values()}
                # Where none is running the pass ends instead: the next one begins with staff alerts.
                if idle and self._running and time.monotonic() < self._ends:
                    claimed, more = self._claim(idle, held)
                    total += claimed
                    busy = (busy - idle) | more
        return total

    def _claim(self, channels: set[str] | None, held: ExitStack) -> tuple[int, set[str]]:
        """Claim deliveries and start their lanes; return how many they are, and the channels that have some."""
        ids = delivery_queue.claim(self._model, self._limits, channels)
        found = self._model._default_manager.select_related("user", *self._related).in_bulk(ids)
        rows = self._not_taken([found[pk] for pk in ids if pk in found])
        alerts.load_events(row for row in rows if isinstance(row, Alert))
        idle = []
        for lane in self._lanes_of(rows):
            if lane.rows:
                pool = lane.rows[0].channel
                if pool not in self._pools:
                    threads = min(self._limits.at_once, CHANNELS.open(pool).most_at_once)
                    self._pools[pool] = held.enter_context(ThreadPoolExecutor(threads))
            if not self._start(lane):
                idle.append(lane)
        self._unlock(idle)
        return len(ids), {row.channel for row in rows}

    def _not_taken(self, rows: list[Delivery]) -> list[Delivery]:
        """Return the deliveries that are to be sent; those that a worker sent before it died are stored as sent."""
        taken = receipts.found(ident_of(row) for row in rows if row.attempts > 1)
        done = [row for row in rows if ident_of(row) in taken]
        self._store_sent(done)
        return [row for row in rows if ident_of(row) not in taken]

    def _lanes_of(self, rows: Iterable[Delivery]) -> list[Lane]:
        """Add rows to one lane per user and channel; leave an endpoint that another pass is sending to."""
        passing = self._outside_quiet_hours(list(rows))
        addresses = endpoints.current_of((row.user_id, row.channel) for row in passing)
        touched: dict[tuple[int, str], Lane] = {}
        for row in passing:
            key = (row.user_id, row.channel)
            if key not in touched:
                touched[key] = self._lanes.setdefault(key, Lane(addresses.get(key)))
            touched[key].rows.append(row)
        later = clock.now() + timedelta(seconds=self._limits.first_wait_seconds)
        spent = [lane for lane in touched.values() if lane.seconds >= self._limits.endpoint_seconds]
        ready = [lane for lane in touched.values() if lane.seconds < self._limits.endpoint_seconds]
        asked = [lane for lane in ready if lane.endpoint is not None and not lane.locked]
        acquired = delivery_queue.lock_all(_lock_name(lane) for lane in asked)
        for lane in asked:
            lane.locked = _lock_name(lane) in acquired
        elsewhere = [lane for lane in asked if not lane.locked]
        self._release([row for lane in (*spent, *elsewhere) for row in lane.rows], later)
        for lane in (*spent, *elsewhere):
            lane.rows.clear()
        return [lane for lane in ready if lane.locked or lane.endpoint is None]

    def _unlock(self, lanes: Iterable[Lane]) -> None:
        held = [lane for lane in lanes if lane.locked]
        delivery_queue.unlock_all(_lock_name(lane) for lane in held)
        for lane in held:
            lane.locked = False

    def _outside_quiet_hours(self, rows: list[Delivery]) -> list[Delivery]:
        """Return the deliveries that may be sent now; the others are due when their user's quiet hours end."""
        quiet, now = NotificationSettings.objects.in_bulk({row.user_id for row in rows}), clock.now()
        held: dict[datetime, list[Delivery]] = {}
        passing = []
        for row in rows:
            until = None if _ignores_quiet_hours(row) else preferences.held_until(quiet.get(row.user_id), now)
            if until is None:
                passing.append(row)
            else:
                held.setdefault(until, []).append(row)
        for until, waiting in held.items():
            delivery_queue.release(self._model, waiting, until)
        return passing

    def _start(self, lane: Lane) -> bool:
        """Submit the lane's next delivery to a thread; return False when it has none that can be sent in this pass.

        Deliveries that can never be sent are marked dead.
        """
        while lane.rows:
            if time.monotonic() + self._longest.get(lane.rows[0].channel, 0.0) > self._ends:
                self._release(lane.rows, clock.now())
                lane.rows.clear()
                return False
            row = lane.rows.popleft()
            try:
                if row.attempts > self._limits.tries:  # the worker died at every try
                    raise Rejected("the worker ended while it was sending")
                message = message_of(row, lane.endpoint)
            except (Rejected, Misconfigured) as error:
                self._store(row, error)
                continue
            slot = self._slot(row.channel)
            pool, run = self._pools[row.channel], copy_context().run
            job = pool.submit(run, _send, row.channel, message, slot, self._ends)
            self._running[job] = (lane, row)
            return True
        return False

    def _slot(self, channel: str) -> float:
        """Return when the next message of a channel may leave; its rate limit is over all users."""
        now = time.monotonic()
        rate = self._limits.per_second.get(channel)
        if rate is None:
            return now
        slot = max(now, self._slots.get(channel, now))
        self._slots[channel] = slot + 1 / rate
        return slot

    def _finish(self, finished: Sequence[Finished]) -> list[Lane]:
        """Store the outcome of sends that have ended; return the lanes that continue."""
        now, limits, going_on = clock.now(), self._limits, []
        self._store_sent([one.row for one in finished if one.attempt and one.attempt.error is None])
        breaker.answered(
            [one.lane.endpoint.pk for one in finished if one.lane.endpoint and _answered(one.attempt)]
        )
        due: dict[datetime, list[Delivery]] = {}
        for one in finished:
            lane, row, attempt = one.lane, one.row, one.attempt
            if attempt is None:  # the pass ended before its turn
                due.setdefault(now, []).extend([row, *lane.rows])
                lane.rows.clear()
                continue
            if attempt.error is not None:
                self._store(row, attempt.error)
            lane.seconds += attempt.seconds
            self._longest[row.channel] = max(attempt.seconds, self._longest.get(row.channel, 0.0))
            failed = not _answered(attempt)
            if lane.endpoint is not None:
                if isinstance(attempt.error, Rejected) and attempt.error.code == GONE:
                    endpoints.remove_gone(lane.endpoint, _reason(attempt.error))
                    self._unlock([lane])
                    lane.endpoint = None  # what is left of the lane has no address
                elif failed or lane.seconds >= limits.endpoint_seconds:
                    if failed:
                        breaker.failed(lane.endpoint, limits)
                    wait_seconds = 0 if failed else limits.first_wait_seconds
                    due.setdefault(now + timedelta(seconds=wait_seconds), []).extend(lane.rows)
                    lane.rows.clear()
                    continue
            going_on.append(lane)
        for at, rows in due.items():
            self._release(rows, at)
        return going_on

    def _release(self, rows: Iterable[Delivery], due: datetime) -> None:
        delivery_queue.release(self._model, rows, due)

    def _store_sent(self, rows: Sequence[Delivery]) -> None:
        """Move deliveries to sent, in one transaction; one that another worker moved is left as it is."""
        if not rows:
            return
        fields = {"sent_at": clock.now(), "last_error": ""}
        moves = [
            Transition(row, DeliveryState.SENT, data={"attempts": row.attempts}, fields=fields)
            for row in rows
        ]
        stored = advance_each(moves)
        for move in stored:
            move.apply()
        receipts.drop(ident_of(row) for row in rows)
        self._result.sent += len(stored)
        if len(stored) < len(rows):
            log.info("deliveries_already_moved", number=len(rows) - len(stored))

    def _store(self, row: Delivery, error: Exception) -> None:
        try:
            _store(row, error, self._limits, self._result)
        except StaleState:
            log.info("delivery_already_moved", delivery=str(row))


def _lock_name(lane: Lane) -> str:
    return f"endpoint:{lane.endpoint.pk}" if lane.endpoint else ""


def _answered(attempt: Attempt | None) -> bool:
    """Return whether the provider took the message, or refused it for good."""
    return attempt is not None and (
        attempt.error is None or isinstance(attempt.error, (Rejected, Misconfigured))
    )


def _ignores_quiet_hours(row: Delivery) -> bool:
    """Return whether nobody is woken by it, as in the inbox, or it is critical."""
    return row.channel == "inbox" or (isinstance(row, Alert) and row.event.name in kinds.CRITICAL)


def _send(channel: str, message: Message, slot: float, ends: float) -> Attempt | None:
    """Send one message at `slot` or later, on a thread; None when that is not before `ends` (monotonic seconds)."""
    if max(slot, time.monotonic()) >= ends:
        return None
    time.sleep(max(0.0, slot - time.monotonic()))
    began, open_channel = time.monotonic(), CHANNELS.open(channel)
    try:
        if open_channel.form is None:
            open_channel.send(message)
        else:
            with receipts.prepared(message.ident, by_status=not open_channel.refuses_in_body):
                open_channel.send(message)
    except Exception as error:  # also a bug in one channel, which must not stop the others
        return Attempt(time.monotonic() - began, error)
    return Attempt(time.monotonic() - began)


def _store(row: Delivery, error: Exception, limits: NotifyPolicy, result: DeliveryResult) -> None:
    """Move a delivery to dead, or make it due later. Raises StaleState when another worker moved it."""
    if isinstance(error, (Rejected, Misconfigured)) or row.attempts >= limits.tries:
        reason = _reason(error)
        with transaction.atomic():
            advance(
                row, DeliveryState.DEAD, why=reason[:200], last_error=reason, data={"attempts": row.attempts}
            )
            fallback.send([row])
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
    with transaction.atomic():
        moved = advance_all(
            model, ids, DeliveryState.PENDING, DeliveryState.DEAD, why=reason, last_error=reason
        )
        rows = list(model._default_manager.filter(pk__in=moved))
        alerts.load_events(row for row in rows if isinstance(row, Alert))
        fallback.send(rows)
    result.dead += len(moved)


def message_of(row: Delivery, endpoint: Endpoint | None) -> Message:
    """Build the message of a delivery to an endpoint; None where the channel needs none.

    Raises Rejected when the user has removed the address or not confirmed it, Misconfigured when it cannot be opened.
    """
    message = _without_address(row)
    if CHANNELS.open(row.channel).form is None:
        return message
    if endpoint is None:
        raise Rejected(
            f"{row.user.get_username()} has removed their {row.channel} address", code="no_endpoint"
        )
    is_code = message.name == kinds.CODE
    if endpoint.verified_at is None and not is_code:
        raise Rejected(f"the {row.channel} address is not confirmed", code="not_confirmed")
    return replace(
        message,
        text=f"Code {endpoints.code_of(endpoint)}. {message.text}" if is_code else message.text,
        address=endpoints.open_address(endpoint),
        secret=endpoints.secret_of(endpoint),
        unsubscribe=endpoints.unsubscribe_link(endpoint, message.name),
    )


def ident_of(row: Delivery) -> str:
    """Return the id of the message of a delivery: the same at every try."""
    return f"{'a' if isinstance(row, Alert) else 'd'}_{row.pk}"


def _without_address(row: Delivery) -> Message:
    if isinstance(row, Alert):
        return alerts.message_of(row)
    if isinstance(row, RuleDelivery):
        return _of_rule(row)
    raise TypeError(f"unknown kind of delivery: {type(row).__name__}")


def text_of(row: Delivery) -> str:
    """Return what a delivery says, in one line."""
    if isinstance(row, Alert):
        return alerts.text_of(row)
    if isinstance(row, RuleDelivery):
        rule, match = row.rule, row.match
        return f"{row.symbol} is at {plain(match.price)} USD ({rules.condition_text(rule)})"
    raise TypeError(f"unknown kind of delivery: {type(row).__name__}")


def _of_rule(row: RuleDelivery) -> Message:
    rule, match = row.rule, row.match
    return Message(
        ident=ident_of(row),
        name="rule.matched",
        at=match.at.isoformat(),
        user=row.user.get_username(),
        text=text_of(row),
        data={
            "rule": rule.rule_id,
            "symbol": row.symbol,
            "condition": rule.condition,
            "threshold": plain(rule.threshold) if rule.threshold else None,
            "parts": rule.parts,
            "price": plain(match.price),
            "value": plain(match.value),
        },
        title="Price rule",
    )


def redrive(model: type[Delivery], ids: list[int]) -> int:
    """Make dead deliveries due now with all their tries, and resume their endpoints; return how many."""
    moved = advance_all(model, ids, DeliveryState.DEAD, DeliveryState.PENDING, attempts=0, due_at=clock.now())
    redriven = model._default_manager.filter(
        pk__in=moved, user_id=OuterRef("user_id"), channel=OuterRef("channel")
    )
    Endpoint.objects.filter(Exists(redriven), active=True).update(rests_until=None)
    return len(moved)
