"""Run a pass of the exits worker: place and settle closing orders, those of a venue in parallel.

A venue that takes batches gets them; at any other each order of an account occupies one thread, so that a slow account
does not delay the others. New exits are claimed meanwhile. An order still being processed when a pass ends continues in
its thread, and later passes skip that account until it is done.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import structlog
from django.db import connection

from maxxit.core import clock
from maxxit.events import wake
from maxxit.postgres import threads
from trading import execute, passes, quarantine, settle
from trading.models import Order
from trading.risk.checks import Verdict
from trading.risk.policy import policy
from trading.rows import load_orders
from trading.states import IN_FLIGHT, IN_FLIGHT_SQL, OrderState
from trading.wiring import batch_size, is_local, venue

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DueOrder:
    """A closing order that is to be placed (`planned`) or settled."""

    pk: int
    venue: str
    account: str
    planned: bool


Batch = tuple[DueOrder, ...]
"""Closing orders of one venue that are processed together."""


@dataclass
class ExitPassCounts:
    """What one pass did; thread-safe."""

    claimed: int = 0
    placed: execute.PlacementCounts = field(default_factory=execute.PlacementCounts)
    settled: int = 0
    """Closing orders in flight whose state changed."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_placed(self, verdict: Verdict) -> None:
        """Count one order that was sent or blocked."""
        with self._lock:
            self.placed.due += 1
            self.placed.count(verdict)

    def count_settled(self, changed: int) -> None:
        """Count orders in flight that changed."""
        with self._lock:
            self.settled += changed


DUE = f"""
SELECT id, venue, account, state = 'planned' AS planned FROM orders
WHERE (state = 'planned' OR state IN {IN_FLIGHT_SQL}) AND purpose = 'close'
  AND (attempts < %(tries)s OR retry_at <= %(now)s)
ORDER BY planned DESC, id
"""  # noqa: S608 (constants only)


def due_orders() -> list[DueOrder]:
    """Return the closing orders that may be processed now: unplaced ones first, then by age."""
    with connection.cursor() as cursor:  # several times per pass: the ORM would take longer than the database
        cursor.execute(DUE, {"tries": quarantine.TRIES, "now": clock.now()})
        return [DueOrder(*row) for row in cursor.fetchall()]


Release = Callable[[Sequence[Order]], Iterable[list[Order]]]
"""Ends the exits that the venue keeps for the positions of held orders; yields those that may be placed now."""


def release_none(held: Sequence[Order]) -> list[list[Order]]:
    """Leave every held order planned."""
    return []


def process(batch: Batch, counts: ExitPassCounts, release: Release = release_none) -> None:
    """Place the planned orders of a batch and settle those in flight.

    Orders that are held because the venue keeps exits of their positions are placed as `release` ends those.
    """
    orders = load_orders(Order.objects.filter(pk__in=[due.pk for due in batch]), count=len(batch))
    planned = [order for order in orders if order.state == OrderState.PLANNED]
    in_flight = [order for order in orders if order.state in IN_FLIGHT]
    with quarantine.counted_for_each(orders):
        at_venue = venue(batch[0].venue)
        if planned:
            placed = execute.place(planned, at_venue, policy())
            held = [one.order for one in placed if one.verdict is execute.HELD]
            for free in release(held) if held else ():
                placed = [one for one in placed if one.order not in free]
                placed += execute.place(free, at_venue, policy())
            for one in placed:
                counts.count_placed(one.verdict)
        if in_flight:
            counts.count_settled(settle.settle_orders(in_flight, at_venue))


class Lanes:
    """Threads per venue that run at most one batch with orders of an account at a time.

    A venue on the network has `size` threads, which share its orders evenly: while few wait, each has its own thread,
    so that a slow account delays itself alone. One that answers from our database takes whole batches, in as many
    threads as make `size` orders, at least one. With `size` 0 there are no threads: `start` runs the work in the
    caller's thread.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pools: dict[str, threads.Pool] = {}
        self._under_way: dict[Batch, Future[None]] = {}

    def under_way(self) -> set[DueOrder]:
        """Return the orders being processed now, including those of earlier passes."""
        self._under_way = {batch: step for batch, step in self._under_way.items() if not step.done()}
        return {due for batch in self._under_way for due in batch}

    def next_batch(self, waiting: Iterable[DueOrder], venue_name: str) -> Batch:
        """Return the next orders of a venue whose accounts are not busy; empty where all its threads are."""
        busy = {due.account for due in self.under_way() if due.venue == venue_name}
        running = sum(1 for batch in self._under_way if batch[0].venue == venue_name)
        most, local = batch_size(venue_name), is_local(venue_name)
        idle = (max(self.size // most, 1) if local else self.size) - running
        if self.size and idle <= 0:
            return ()
        free = [due for due in waiting if due.venue == venue_name and due.account not in busy]
        each = most if local or not self.size else min(most, -(-len(free) // idle))
        return tuple(free[:each])

    def start(self, batch: Batch, work: Callable[[], None]) -> None:
        """Start `work` on a batch of `next_batch`."""
        if not self.size:
            work()
            return
        name = batch[0].venue
        if name not in self._pools:
            self._pools[name] = threads.Pool(self.size, f"exits-{name}")
        self._under_way[batch] = self._pools[name].submit(partial(_log_errors, work))

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for any running batch to finish; return whether one did."""
        steps = [step for step in self._under_way.values() if not step.done()]
        return bool(wait(steps, max(seconds, 0), FIRST_COMPLETED).done) if steps else False

    def close(self) -> None:
        """Wait for the work under way and end the threads with their database connections."""
        for pool in self._pools.values():
            pool.close()


def _log_errors(work: Callable[[], None]) -> None:
    """Run `work`. After an error the next pass processes the orders again."""
    try:
        work()
    except Exception as error:
        log.exception("closing_step_failed", error=str(error))


class Claimed(NamedTuple):
    """What one call of `claim` did."""

    positions: int
    """How many were claimed."""
    more: bool = False
    """Whether further exits are known to be due."""


def run(claim: Callable[[], Claimed], lanes: Lanes, release: Release = release_none) -> ExitPassCounts:
    """Claim due exits, place their closing orders and settle those in flight, until nothing is left to do.

    `claim` claims up to a batch of the positions whose exit is due. It is called at the start, every
    `sweep_milliseconds`, and again at once where more are due and few orders wait: an exit that cannot be claimed does
    not end the pass for those behind it. Each order is placed once and settled once per pass. When the time budget runs
    out, the next pass is woken at once.
    """
    rules = passes.policy().exits
    budget, counts = passes.TimeBudget(rules.pass_seconds), ExitPassCounts()
    started_orders = lanes.under_way()
    waiting: list[DueOrder] = []
    next_claim, moved = float("-inf"), time.monotonic()
    while budget.left():
        up_to_date = time.monotonic() >= next_claim
        if up_to_date:
            claimed = claim()
            counts.claimed += claimed.positions
            waiting = [due for due in due_orders() if due not in started_orders]
            size = passes.policy().batch
            more = claimed.more and len(waiting) < ENOUGH_BATCHES * size
            next_claim = time.monotonic() + (0 if more else rules.sweep_seconds)
        started = _start(waiting, lanes, partial(process, counts=counts, release=release), budget)
        started_orders |= started
        waiting = [due for due in waiting if due not in started]
        if not waiting and not up_to_date:
            waiting = [due for due in due_orders() if due not in started_orders]
            if waiting:
                continue
        if lanes.wait(next_claim - time.monotonic()) or started:
            moved = time.monotonic()
        elif not waiting and (not lanes.under_way() or time.monotonic() - moved >= rules.idle_seconds):
            break
    if waiting:
        wake.after_commit("exits.waiting")
    return counts


ENOUGH_BATCHES = 2
"""While so many batches wait, no further exits are claimed ahead of time."""


def _start(
    waiting: Sequence[DueOrder], lanes: Lanes, step: Callable[[Batch], None], budget: passes.TimeBudget
) -> set[DueOrder]:
    """Start a batch in every thread that is free; return the orders started."""
    started: set[DueOrder] = set()
    for name in dict.fromkeys(due.venue for due in waiting):
        while budget.left() and (
            batch := lanes.next_batch((due for due in waiting if due not in started), name)
        ):
            lanes.start(batch, partial(step, batch))
            started |= set(batch)
    return started
