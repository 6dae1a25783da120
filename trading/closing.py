"""Closing orders to their venues and to their end: many accounts side by side, one order at a time for each account.

A slow or stuck account keeps one lane of its venue; the others go on, and new exits are claimed meanwhile. What is
still under way when a pass ends goes on in its thread, and the next passes leave that account alone until it is done.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial

import structlog
from django.db import connection
from django.db.models import Q

from maxxit.core.terms import Purpose
from maxxit.events import wake
from trading import execute, passes, quarantine, settle
from trading.models import Order
from trading.policy import policy
from trading.risk import Verdict
from trading.states import IN_FLIGHT, OrderState
from trading.wiring import venue

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A closing order that has something to be done: to be placed, or asked about."""

    pk: int
    venue: str
    account: str
    planned: bool


@dataclass
class Closed:
    """What a pass did. Several threads add to it."""

    claimed: int = 0
    placed: execute.Placed = field(default_factory=execute.Placed)
    settled: int = 0
    """Closing orders in flight that moved."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_placed(self, verdict: Verdict) -> None:
        """Add one order that was placed or blocked."""
        with self._lock:
            self.placed.due += 1
            self.placed.count(verdict)

    def count_settled(self, moved: bool) -> None:
        """Add one order that was asked about."""
        with self._lock:
            self.settled += moved


def due() -> list[Due]:
    """Every closing order that may be worked on now: those to be placed first, each kind the oldest first."""
    states = Q(state=OrderState.PLANNED) | Q(state__in=IN_FLIGHT)
    rows = Order.objects.filter(states, quarantine.due(), purpose=Purpose.CLOSE).order_by("pk")
    found = [
        Due(pk, at, account, state == OrderState.PLANNED)
        for pk, at, account, state in rows.values_list("pk", "venue", "account", "state")
    ]
    return sorted(found, key=lambda one: not one.planned)


def step(one: Due, closed: Closed) -> None:
    """Place the order, or ask its venue how it stands."""
    order = Order.objects.select_related("deployment__agent", "signal").get(pk=one.pk)
    with quarantine.quarantine_on_error(order):
        if order.state == OrderState.PLANNED:
            closed.count_placed(execute.place(order, venue(order.venue), policy()))
        elif order.state in IN_FLIGHT:
            closed.count_settled(settle.settle(order, venue(order.venue)))


class Lanes:
    """Threads for each venue, `size` at most, with at most one order of an account under way. Zero: no threads, each
    step runs at once where it is started."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._under_way: dict[Due, Future[None]] = {}

    def under_way(self) -> set[Due]:
        """The orders whose steps have not ended, also of earlier passes."""
        self._under_way = {one: step for one, step in self._under_way.items() if not step.done()}
        return set(self._under_way)

    def start(self, one: Due, work: Callable[[], None]) -> bool:
        """Begin `work`, unless the account or all lanes of its venue are busy; whether it began."""
        if not self.size:
            work()
            return True
        busy = [other.account for other in self.under_way() if other.venue == one.venue]
        if one.account in busy or len(busy) >= self.size:
            return False
        pool = self._pools.setdefault(one.venue, ThreadPoolExecutor(self.size, f"exits-{one.venue}"))
        self._under_way[one] = pool.submit(copy_context().run, _in_thread, work)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for a step that is under way to end; whether one did within `seconds`."""
        steps = [self._under_way[one] for one in self.under_way()]
        return bool(wait(steps, max(seconds, 0), FIRST_COMPLETED).done) if steps else False


def _in_thread(work: Callable[[], None]) -> None:
    """Run one step with a connection of its own. A lost database ends this step only: the next pass does it again."""
    try:
        work()
    except Exception as error:
        log.exception("closing_step_failed", error=str(error))
    finally:
        connection.close()


def run(claim: Callable[[], int], lanes: Lanes) -> Closed:
    """Claim exits, place their closing orders at once, and settle those in flight, until nothing of it is left.

    `claim` is called at the start and every `sweep_milliseconds` while the pass works. Each order is placed once and
    asked about once a pass. What the time does not suffice for is the next pass's, which is woken at once.
    """
    rules = passes.policy().exits
    budget, closed = passes.TimeBudget(rules.pass_seconds), Closed()
    begun = lanes.under_way()
    waiting: list[Due] = []
    next_claim, moved = float("-inf"), time.monotonic()
    while budget.left():
        if time.monotonic() >= next_claim:
            closed.claimed += claim()
            next_claim = time.monotonic() + rules.sweep_seconds
            waiting = [one for one in due() if one not in begun]
        started = {one for one in waiting if budget.left() and lanes.start(one, partial(step, one, closed))}
        begun |= started
        waiting = [one for one in waiting if one not in started]
        if not waiting and (waiting := [one for one in due() if one not in begun]):
            continue
        if lanes.wait(next_claim - time.monotonic()) or started:
            moved = time.monotonic()
        elif not waiting and (not lanes.under_way() or time.monotonic() - moved >= rules.idle_seconds):
            break
    if waiting:
        wake.after_commit("exits.waiting")
    return closed
