"""Progress of signals while their entries are placed: counts by state, the queue at the platform's pace, an estimate.

Reads only what an index gives: the orders of the signals asked for, and the planned orders of the platform.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Min

from maxxit.access.rows import Person, deployments_of, visible
from maxxit.core import clock
from maxxit.core.errors import Rejected
from maxxit.core.terms import Purpose
from maxxit.events.models import Event
from maxxit.events.record import subject
from maxxit.reports.schemas import ProgressOut, QueueOut, ReasonCountOut, WaitingOrderOut
from maxxit.reports.trades import reasons
from positions.models import Position
from positions.states import PositionState
from signals_app.models import Signal
from signals_app.states import SignalState
from trading.models import Order
from trading.quarantine import TRIES
from trading.risk.limits_in_force import protective_limits
from trading.states import IN_FLIGHT, OrderState

MINUTE = timedelta(minutes=1)
RECENT = timedelta(hours=1)
LISTED = 20
"""Signals in a list at most."""
WAITING_LISTED = 15
"""Waiting orders in a list at most."""
WAITING_EVENT = "signal.waiting"
"""Recorded when the first entry of a signal is held back."""


# -- the estimate: pure


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in the queue that belong to one signal: planned entries that follow each other by id."""

    signal_id: int | None
    venue: str
    waits: bool
    """Held back by the pace, as opposed to not looked at yet."""
    own: bool
    """Orders that the reader may see."""
    count: int
    place: int
    """Of the first one, among the planned entries of all venues; 1 is next."""
    venue_place: int
    """Of the first one, among the planned entries of its venue."""
    expires_at: datetime | None
    """When its signal expires."""


@dataclass(frozen=True)
class Pace:
    """The platform's pace of entries, over all accounts and venues."""

    per_minute: int
    """Entries allowed within 60 seconds."""
    last_minute: int
    """Entries reserved in the last 60 seconds."""
    now: datetime

    @property
    def free(self) -> int:
        """Entries that may be reserved at once."""
        return max(self.per_minute - self.last_minute, 0)

    def leaves_at(self, turn: int) -> datetime:
        """Estimate when the entry is reserved before which `turn` - 1 others are (1: the next one)."""
        return self.now + max(turn - self.free, 0) * MINUTE / self.per_minute

    def leave_before(self, deadline: datetime | None) -> int | None:
        """Estimate how many entries are reserved before `deadline`; None for no deadline."""
        if deadline is None:
            return None
        seconds = (deadline - self.now) / timedelta(seconds=1)
        return self.free + int(seconds * self.per_minute / 60) if seconds > 0 else 0


@dataclass(frozen=True)
class Estimate:
    """What becomes of queued orders at the allowed pace, if no other check blocks them."""

    leave: int = 0
    """Orders that are sent before their signal expires."""
    expire: int = 0
    """Orders that their signal's deadline reaches first."""
    done_at: datetime | None = None
    """When the last of those that leave is sent; None where none leaves."""


def turns(runs: Iterable[Run], pace: Pace) -> list[tuple[Run, int, int]]:
    """Return for each run how many orders are sent before it, and how many of it before their signal expires.

    The queue is served in the order of ids. An order whose signal expires before its turn leaves the queue unsent and
    takes no turn from those behind it.
    """
    served, result = 0, []
    for run in runs:
        most = pace.leave_before(run.expires_at)
        leave = run.count if most is None else min(max(most - served, 0), run.count)
        result.append((run, served, leave))
        served += leave
    return result


def estimate(queue: Iterable[tuple[Run, int, int]], pace: Pace) -> Estimate:
    """Sum up the estimate of some of the queue's `turns`."""
    leave = expire = last = 0
    for run, before, leaves in queue:
        leave += leaves
        expire += run.count - leaves
        last = before + leaves if leaves else last
    return Estimate(leave, expire, pace.leaves_at(last) if last else None)


# -- what is read


@dataclass(frozen=True)
class ReasonCount:
    """How many orders of a signal are in one state for one reason."""

    status: str
    """waiting, blocked, rejected, expired, canceled or replaced."""
    reason: str
    count: int

    @property
    def kind(self) -> str:
        """The count of `Progress` that they are part of."""
        return self.status if self.status in COUNTED else "ended"

    @property
    def meaning(self) -> str:
        """What the reason means."""
        return reasons.explain(self.reason)[0] if self.reason else ""

    @property
    def change(self) -> str:
        """What changes it."""
        return reasons.explain(self.reason)[1] if self.reason else ""

    @property
    def audience(self) -> str:
        """Who can change it."""
        return str(reasons.explain(self.reason)[2]) if self.reason else ""


@dataclass(frozen=True)
class WaitingOrder:
    """One planned entry in the queue of its venue."""

    order_id: int
    signal_id: int | None
    account: str
    reason: str
    """Empty where it was not looked at yet."""
    place: int
    """Among the planned entries of the venue; 1 is next."""
    length: int
    """Planned entries of the venue."""
    leaves_at: datetime | None
    """Estimate; None where its signal expires first."""
    expires_at: datetime | None

    @property
    def text(self) -> str:
        """The place in the queue and the estimate, for people."""
        place = f"number {self.place:,} of {self.length:,}"
        if self.leaves_at:
            return f"{place}, sent at about {self.leaves_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.expires_at:
            return f"{place}, expires at {self.expires_at:%Y-%m-%d %H:%M:%S} UTC before its turn"
        return place


COUNTED = ("filled", "sent", "planned", "waiting", "blocked", "ended", "quarantined")
"""Counts of `Progress` that add up to all its orders."""
LABELS = {"ended": "rejected or expired"}
"""Count -> its name for people, where that differs."""
SIGNAL_FIELDS = ("agent_id", "token", "venue", "side", "reason", "created_at", "expires_at", "correlation_id")


@dataclass
class Progress:
    """Where the entries of one signal are, as far as the reader may see them."""

    signal: Signal
    pace: Pace
    planned: int = 0
    """Not looked at yet."""
    waiting: int = 0
    """Looked at and held back until their turn."""
    sent: int = 0
    """At the venue, or on the way to it: not in a terminal state."""
    filled: int = 0
    """Also in part."""
    blocked: int = 0
    ended: int = 0
    """Rejected, canceled, replaced or expired without a fill."""
    quarantined: int = 0
    """Failed unexpectedly three times before they were sent; an operator redrives them."""
    reasons: list[ReasonCount] = field(default_factory=list)
    """Most frequent first."""
    opened: int = 0
    """Positions, the closed ones included."""
    closed: int = 0
    waiting_since: datetime | None = None
    first_place: int | None = None
    """Of the first waiting order in the queue of the venue; 1 is next."""
    last_place: int | None = None
    queue_length: int = 0
    """Planned entries of the venue, those of other signals included."""
    estimate: Estimate = Estimate()
    """Of the planned and the waiting orders."""
    waiting_orders: list[WaitingOrder] = field(default_factory=list)
    """The first of the planned and waiting orders; only `of_signal` reads them."""

    @property
    def orders(self) -> int:
        """All entries of the signal."""
        return sum(count for _, count in self.parts)

    @property
    def parts(self) -> list[tuple[str, int]]:
        """The counts by name, in the order in which a bar shows them; those that are zero are left out."""
        return [(name, getattr(self, name)) for name in COUNTED if getattr(self, name)]

    def as_json(self) -> dict[str, Any]:
        """The answer of the API, and what `--json` prints."""
        signal, estimated = self.signal, self.estimate
        answer = ProgressOut(
            **{name: getattr(signal, name) for name in SIGNAL_FIELDS},
            **{name: getattr(self, name) for name in COUNTED},
            signal_id=signal.pk,
            agent=str(signal.agent),
            status=signal.state,
            under_way=self.under_way,
            orders=self.orders,
            reasons=[ReasonCountOut.from_orm(group) for group in self.reasons],
            queue=QueueOut(
                first=self.first_place,
                last=self.last_place,
                length=self.queue_length,
                waiting_since=self.waiting_since,
                last_minute=self.pace.last_minute,
                per_minute=self.pace.per_minute,
                leave=estimated.leave,
                expire=estimated.expire,
                done_at=estimated.done_at,
            ),
            positions_opened=self.opened,
            positions_closed=self.closed,
            waiting_orders=[WaitingOrderOut.from_orm(order) for order in self.waiting_orders],
        )
        values: dict[str, Any] = answer.model_dump(mode="json")
        return values

    @property
    def queued(self) -> int:
        """Planned and waiting ones."""
        return self.planned + self.waiting

    @property
    def under_way(self) -> bool:
        """Whether something may still happen to an entry by itself."""
        return bool(self.queued or self.sent) or self.signal.state == SignalState.PENDING


RUNS = """
SELECT q.first, q.place, q.signal_id, q.venue, q.waits, q.own, s.expires_at
FROM (
    SELECT signal_id, venue, waits, own, row_number() OVER queue AS place, lead(id) OVER queue IS NULL AS last,
           (signal_id, venue, waits, own) IS DISTINCT FROM
           (lag(signal_id) OVER queue, lag(venue) OVER queue, lag(waits) OVER queue, lag(own) OVER queue) AS first
    FROM (
        SELECT id, signal_id, venue, reason <> '' AS waits,
               %(own)s::bigint[] IS NULL OR deployment_id = ANY(%(own)s::bigint[]) AS own
        FROM orders WHERE state = 'planned' AND purpose = 'open' AND attempts < %(tries)s
          AND reason <> 'awaiting_confirmation'
    ) AS planned
    WINDOW queue AS (ORDER BY id)
) AS q LEFT JOIN signals s ON s.id = q.signal_id
WHERE q.first OR q.last
ORDER BY q.place
"""
"""The first order of each run, and the last order of the queue: ten thousand planned orders are a few rows."""

PLACES = """
SELECT id, signal_id, account, reason, place, venue_place FROM (
    SELECT id, signal_id, deployment_id, account, reason, row_number() OVER (ORDER BY id) AS place,
           row_number() OVER (PARTITION BY venue ORDER BY id) AS venue_place
    FROM orders WHERE state = 'planned' AND purpose = 'open' AND attempts < %(tries)s
      AND reason <> 'awaiting_confirmation'
) AS queue
WHERE (%(signal)s::bigint IS NULL OR signal_id = %(signal)s) AND (%(order)s::bigint IS NULL OR id = %(order)s)
  AND (%(own)s::bigint[] IS NULL OR deployment_id = ANY(%(own)s::bigint[]))
ORDER BY place LIMIT %(most)s
"""
"""Planned orders with their places."""


class Queue:
    """The planned entries of the platform as runs, with the estimate for each."""

    def __init__(self, own: Sequence[int] | None = None) -> None:
        """Read it. `own`: the deployments whose orders the reader may see; None: all."""
        self.own = None if own is None else list(own)
        self.pace = read_pace()
        with connection.cursor() as cursor:
            cursor.execute(RUNS, {"own": self.own, "tries": TRIES})
            self.turns = turns(_runs(cursor.fetchall()), self.pace)
        self._places = [run.place for run, _, _ in self.turns]
        self._lengths: Counter[str] = Counter()
        for run, _, _ in self.turns:
            self._lengths[run.venue] += run.count

    def length(self, venue: str) -> int:
        """Return the number of planned entries of a venue."""
        return self._lengths[venue]

    def of_signal(self, signal_id: int) -> list[tuple[Run, int, int]]:
        """List the runs of the reader's orders of one signal."""
        return [turn for turn in self.turns if turn[0].signal_id == signal_id and turn[0].own]

    def waiting(
        self, signal_id: int | None = None, order_id: int | None = None, most: int = WAITING_LISTED
    ) -> list[WaitingOrder]:
        """List the reader's planned orders (of one signal, or one order) in the order of the queue, `most` at most."""
        params = {"signal": signal_id, "order": order_id, "own": self.own, "tries": TRIES, "most": most}
        with connection.cursor() as cursor:
            cursor.execute(PLACES, params)
            rows = cursor.fetchall()
        return [self._order(*row) for row in rows]

    def _order(
        self, pk: int, signal_id: int | None, account: str, reason: str, place: int, venue_place: int
    ) -> WaitingOrder:
        number = bisect_right(self._places, place) - 1
        if number < 0:  # it was planned after the queue was read
            return WaitingOrder(pk, signal_id, account, reason, venue_place, venue_place, None, None)
        run, before, leaves = self.turns[number]
        offset = place - run.place
        leaves_at = self.pace.leaves_at(before + offset + 1) if offset < leaves else None
        length = max(self.length(run.venue), venue_place)
        return WaitingOrder(pk, signal_id, account, reason, venue_place, length, leaves_at, run.expires_at)


def _runs(rows: Sequence[tuple[Any, ...]]) -> Iterator[Run]:
    """Build the runs from the rows of `RUNS`: each ends before the next one begins, the last one with the queue."""
    starts = [row[1:] for row in rows if row[0]]
    ends = [*(start[0] for start in starts[1:]), rows[-1][1] + 1] if rows else []
    before: Counter[str] = Counter()
    for (place, signal_id, venue, waits, own, expires_at), end in zip(starts, ends, strict=True):
        yield Run(signal_id, venue, waits, own, end - place, place, before[venue] + 1, expires_at)
        before[venue] += end - place


def read_pace() -> Pace:
    """Read the allowed and the present pace. Stores nothing; a limit that cannot be read is the configured one."""
    now = clock.now()
    reserved = Order.objects.filter(purpose=Purpose.OPEN, reserved_at__gt=now - MINUTE)
    return Pace(protective_limits().platform.max_orders_per_minute, reserved.count(), now)


def of_signals(signals: Sequence[Signal], person: Person = None) -> list[Progress]:
    """Return the progress of each signal, in the same order; counts are of the orders that `person` may see."""
    return _read(signals, Queue(deployments_of(person))) if signals else []


def _read(signals: Sequence[Signal], queue: Queue) -> list[Progress]:
    """Return the progress of each signal with the orders that the reader of `queue` may see."""
    found = {signal.pk: Progress(signal, queue.pace) for signal in signals}
    _count_orders(found, queue.own)
    _count_positions(found, queue.own)
    _read_queue(found, queue)
    return list(found.values())


COUNTS = """
SELECT signal_id, state, reason, filled_quantity > 0 AS traded, attempts >= %(tries)s AS failed, count(*)
FROM orders
WHERE signal_id = ANY(%(signals)s) AND purpose = 'open'
  AND (%(own)s::bigint[] IS NULL OR deployment_id = ANY(%(own)s::bigint[]))
GROUP BY 1, 2, 3, 4, 5
"""
"""The entries of signals by state and reason; of all deployments, or of the reader's own."""


def _count_orders(found: dict[int, Progress], own: list[int] | None) -> None:
    """Count the entries of each signal by state and reason."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, {"signals": list(found), "own": own, "tries": TRIES})
        for signal_id, *group in cursor.fetchall():
            _add(found[signal_id], *group)
    for progress in found.values():
        progress.reasons.sort(key=lambda group: (-group.count, group.status, group.reason))


def _add(progress: Progress, state: str, reason: str, traded: bool, failed: bool, count: int) -> None:
    """Add a group of entries to the counts of their signal."""
    kind = state
    if state == OrderState.FILLED or (traded and state not in IN_FLIGHT):
        progress.filled += count
        return
    if state in IN_FLIGHT:
        progress.sent += count
        return
    if state == OrderState.PLANNED and failed:
        progress.quarantined += count
        return
    if state == OrderState.PLANNED and not reason:
        progress.planned += count
        return
    if state == OrderState.PLANNED:
        kind = "waiting"
        progress.waiting += count
    elif state == OrderState.BLOCKED:
        progress.blocked += count
    else:
        progress.ended += count
    progress.reasons.append(ReasonCount(kind, reason, count))


def _count_positions(found: dict[int, Progress], own: Sequence[int] | None) -> None:
    """Count the positions of each signal, and the closed ones among them."""
    positions = Position.objects.filter(signal__in=found)
    if own is not None:
        positions = positions.filter(deployment__in=own)
    for signal_id, state, count in (
        positions.values_list("signal", "state").annotate(count=Count("pk")).order_by()
    ):
        found[signal_id].opened += count
        found[signal_id].closed += count if state == PositionState.CLOSED else 0


def _read_queue(found: dict[int, Progress], queue: Queue) -> None:
    """Add places, queue length and estimate, and since when orders of the signal wait."""
    for progress in found.values():
        own = queue.of_signal(progress.signal.pk)
        waiting = [run for run, _, _ in own if run.waits]
        progress.queue_length = queue.length(progress.signal.venue)
        progress.estimate = estimate(own, queue.pace)
        if waiting:
            progress.first_place = waiting[0].venue_place
            progress.last_place = waiting[-1].venue_place + waiting[-1].count - 1
    subjects = {subject(progress.signal): progress for progress in found.values() if progress.waiting}
    events = Event.objects.filter(subject__in=subjects, name=WAITING_EVENT)
    for name, at in events.values_list("subject").annotate(at=Min("at")).order_by():
        subjects[name].waiting_since = at


def recent(person: Person = None, most: int = LISTED) -> list[Progress]:
    """Return the signals under way, then those of the last hour that have entries, each newest first."""
    seen = visible(Signal.objects.all(), person).order_by("-pk")
    pending = seen.filter(state=SignalState.PENDING).values_list("pk", flat=True)[:most]
    in_flight = Order.objects.filter(state__in=IN_FLIGHT, purpose=Purpose.OPEN, signal__isnull=False)
    if (own := deployments_of(person)) is not None:
        in_flight = in_flight.filter(deployment__in=own)
    unsettled = in_flight.order_by("-signal").values_list("signal", flat=True).distinct()[:most]
    since = clock.now() - RECENT
    newest = [pk for pk, at in seen.values_list("pk", "created_at")[:most] if at > since]
    under_way = sorted({*pending, *unsettled}, reverse=True)
    chosen = [*under_way, *(pk for pk in newest if pk not in under_way)]
    rows = seen.select_related("agent").in_bulk(chosen[: 2 * most])
    listed = of_signals([rows[pk] for pk in chosen if pk in rows], person)
    return [progress for progress in listed if progress.under_way or progress.orders][:most]


def of_signal(signal_id: int, person: Person = None) -> Progress:
    """Return the progress of one signal. Raises Rejected where there is none, or `person` may not see it."""
    row = visible(Signal.objects.select_related("agent"), person).filter(pk=signal_id).first()
    if row is None:
        raise Rejected(
            f"no signal {signal_id}, or it belongs to another customer: look for it in the list of signals",
            code="not_found",
        )
    queue = Queue(deployments_of(person))
    [progress] = _read([row], queue)
    if progress.queued:
        progress.waiting_orders = queue.waiting(signal_id)
    return progress
