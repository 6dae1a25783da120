"""One pass over the deliveries that are due: claim a bounded set once, send, then mark each sent, due later or dead.

No customer delays another. Sends run on a few threads and only the sends: messages are made and results are stored by
the pass itself. The deliveries to one endpoint form a lane: one send at a time, ended by the first failure, by
`endpoint_seconds` or with the pass. An endpoint that fails again and again rests (`breaker`). Staff alerts have a pass
of their own, which never waits for price rules. What was sent just before a worker died is sent again: a receiver drops
repetitions by the delivery's id.
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
from maxxit.market.models import Delivery, RuleDelivery
from maxxit.market.states import DeliveryState
from maxxit.notify import alerts, breaker, claims, endpoints
from maxxit.notify.channels import CHANNELS
from maxxit.notify.channels.base import Message
from maxxit.notify.models import Alert, Endpoint
from maxxit.notify.policy import NotifyPolicy, policy

log = structlog.get_logger(__name__)
ALERT_TASK, DELIVER_TASK = "maxxit.notify.tasks.alert", "maxxit.notify.tasks.deliver"


@dataclass
class DeliveryResult:
    """What a pass did."""

    sent: int = 0
    later: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one send ended."""

    seconds: float
    error: Exception | None = None


@dataclass
class Lane:
    """The claimed deliveries of one person on one channel, in their order."""

    endpoint: Endpoint | None
    """None for a channel that needs no address."""
    rows: deque[Delivery] = field(default_factory=deque)
    seconds: float = 0.0
    """Spent on sends in this pass."""


def deliver() -> DeliveryResult:
    """Send staff alerts, then the deliveries of price rules: what is due now, each in one pass."""
    done = deliver_alerts()
    _pass(RuleDelivery, ("rule", "match"), DELIVER_TASK, done)
    return done


def deliver_alerts() -> DeliveryResult:
    """Send the staff alerts that are due now, in one pass."""
    done = DeliveryResult()
    alerts.write()
    _pass(Alert, ("event",), ALERT_TASK, done)
    return done


def _pass(model: type[Delivery], related: tuple[str, ...], task: str, done: DeliveryResult) -> None:
    """One pass over one kind of delivery, unless another worker is in one; wakes `task` when more is due."""
    rules, name = policy(), model._meta.db_table
    with claims.held(name) as mine:
        if not mine:
            return
        _give_up(model, rules, done)
        ids = claims.claim(model, rules)
        rows = model._default_manager.select_related("user", *related).in_bulk(ids)
        Pass(model, rules, done).send(rows[pk] for pk in ids if pk in rows)
    # Only after the lock is gone: who found it taken counts on this.
    if ids and claims.waiting(model, rules):
        wake.wake_task(task)


class Pass:
    """Sends claimed deliveries, many endpoints at once and each endpoint one by one."""

    def __init__(self, model: type[Delivery], rules: NotifyPolicy, done: DeliveryResult) -> None:
        self._model, self._rules, self._done = model, rules, done
        self._ends = time.monotonic() + rules.pass_seconds
        self._running: dict[Future[Attempt | None], tuple[Lane, Delivery]] = {}

    def send(self, rows: Iterable[Delivery]) -> None:
        """Send them all, or as many as the limits of a pass allow; give back the rest."""
        with ThreadPoolExecutor(self._rules.at_once) as pool, ExitStack() as locks:
            for lane in self._lanes(rows, locks):
                self._start(pool, lane)
            while self._running:
                finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
                for future in finished:
                    lane, row = self._running.pop(future)
                    if self._finish(lane, row, future.result()):
                        self._start(pool, lane)

    def _lanes(self, rows: Iterable[Delivery], locks: ExitStack) -> list[Lane]:
        """One lane a person and channel. An endpoint that another pass is sending to is left to it."""
        lanes: dict[tuple[int, str], Lane] = {}
        for row in rows:
            key = (row.user_id, row.channel)
            if key not in lanes:
                lanes[key] = Lane(endpoints.current(row.user, row.channel))
            lanes[key].rows.append(row)
        free = []
        for lane in lanes.values():
            if lane.endpoint is None or locks.enter_context(claims.held(f"endpoint:{lane.endpoint.pk}")):
                free.append(lane)
            else:
                self._release(lane.rows, clock.now() + timedelta(seconds=self._rules.first_wait_seconds))
        return free

    def _start(self, pool: ThreadPoolExecutor, lane: Lane) -> None:
        """Hand the lane's next delivery to a thread; those before it that cannot be sent at all are dead."""
        while lane.rows:
            row = lane.rows.popleft()
            try:
                if (
                    row.attempts > self._rules.tries
                ):  # each try ended with its worker: it is not tried for ever
                    raise Rejected("the worker ended while it was sending")
                message = message_of(row)
            except (Rejected, Misconfigured) as error:
                self._store(row, error)
                continue
            job = pool.submit(copy_context().run, _send, row.channel, message, self._ends)
            self._running[job] = (lane, row)
            return

    def _finish(self, lane: Lane, row: Delivery, attempt: Attempt | None) -> bool:
        """Store how the send ended; returns whether the lane goes on."""
        now, rules = clock.now(), self._rules
        if attempt is None:  # the pass was over before its turn came
            self._release([row, *lane.rows], now)
            return False
        self._store(row, attempt.error)
        lane.seconds += attempt.seconds
        failed = attempt.error is not None and not isinstance(attempt.error, (Rejected, Misconfigured))
        if lane.endpoint is not None:
            if failed:
                breaker.failed(lane.endpoint, rules)
            else:
                breaker.answered(lane.endpoint)
            if failed or lane.seconds >= rules.endpoint_seconds:
                self._release(lane.rows, now + timedelta(seconds=0 if failed else rules.first_wait_seconds))
                return False
        return True

    def _release(self, rows: Iterable[Delivery], due: datetime) -> None:
        claims.release(self._model, list(rows), due)

    def _store(self, row: Delivery, error: Exception | None) -> None:
        try:
            _store(row, error, self._rules, self._done)
        except StaleState:
            log.info("delivery_already_moved", delivery=str(row))


def _send(channel: str, message: Message, ends: float) -> Attempt | None:
    """Send one message, on a thread; None when it is past `ends` (monotonic seconds) before it begins."""
    began = time.monotonic()
    if began >= ends:
        return None
    try:
        CHANNELS.open(channel).send(message)
    except Exception as error:  # also a bug in one channel: it must not hold up the others
        return Attempt(time.monotonic() - began, error)
    return Attempt(time.monotonic() - began)


def _store(row: Delivery, error: Exception | None, rules: NotifyPolicy, done: DeliveryResult) -> None:
    """Move a delivery to sent or dead, or make it due later. Raises StaleState when another worker moved it."""
    if error is None:
        advance(row, DeliveryState.SENT, sent_at=clock.now(), last_error="", data={"attempts": row.attempts})
        done.sent += 1
    elif isinstance(error, (Rejected, Misconfigured)) or row.attempts >= rules.tries:
        reason = _reason(error)
        advance(row, DeliveryState.DEAD, why=reason[:200], last_error=reason, data={"attempts": row.attempts})
        done.dead += 1
    else:
        after = error.after if isinstance(error, Retryable) else None
        seconds = min(after or rules.first_wait_seconds * 2 ** (row.attempts - 1), rules.most_wait_seconds)
        type(row)._default_manager.filter(pk=row.pk, state=DeliveryState.PENDING).update(
            due_at=clock.now() + timedelta(seconds=seconds), last_error=_reason(error)
        )
        done.later += 1
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


def _give_up(model: type[Delivery], rules: NotifyPolicy, done: DeliveryResult) -> None:
    """Set aside what has waited too long for an endpoint that rests."""
    reason = f"the endpoint has not answered for {rules.give_up_hours} hours"
    ids = claims.abandoned(model, rules)
    done.dead += len(
        advance_all(model, ids, DeliveryState.PENDING, DeliveryState.DEAD, why=reason, last_error=reason)
    )


def message_of(row: Delivery) -> Message:
    """The message and its address. Raises Rejected when the person has removed the address."""
    address, secret = endpoints.address_of(row.user, row.channel)
    if isinstance(row, Alert):
        return alerts.message_of(row, address, secret)
    if isinstance(row, RuleDelivery):
        return _of_rule(row, address, secret)
    raise TypeError(f"nothing is known of {type(row).__name__}")


def _of_rule(row: RuleDelivery, address: str, secret: str) -> Message:
    rule, match = row.rule, row.match
    unit = " %" if rule.condition == "change_pct" else " USD"
    wish = f"{rule.get_condition_display()} {plain(rule.threshold) + unit if rule.threshold else ''}".strip()
    return Message(
        ident=f"d_{row.pk}",
        name="rule.matched",
        at=match.at.isoformat(),
        user=row.user.get_username(),
        text=f"{row.symbol} is at {plain(match.price)} USD ({wish})",
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
    """Give dead deliveries all their tries again, from now, and end the rest of their endpoints; returns how many."""
    moved = advance_all(model, ids, DeliveryState.DEAD, DeliveryState.PENDING, attempts=0, due_at=clock.now())
    mine = model._default_manager.filter(
        pk__in=moved, user_id=OuterRef("user_id"), channel=OuterRef("channel")
    )
    Endpoint.objects.filter(Exists(mine), active=True).update(rests_until=None)
    return len(moved)
