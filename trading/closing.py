"""Run a pass of the exits worker: place and settle closing orders of many accounts in parallel, one per account.

A slow account occupies one thread of its venue; the others continue, and new exits are claimed meanwhile. An order
still being processed when a pass ends continues in its thread, and later passes skip that account until it is done.
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
class DueOrder:
    """A closing order that is to be placed (`planned`) or settled."""

    pk: int
    venue: str
    account: str
    planned: bool


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

    def count_settled(self, moved: bool) -> None:
        """Count one order that was settled; `moved`: its state changed."""
        with self._lock:
            self.settled += moved


def due_orders() -> list[DueOrder]:
    """Return the closing orders that may be processed now: unplaced ones first, then by age."""
    states = Q(state=OrderState.PLANNED) | Q(state__in=IN_FLIGHT)
    rows = Order.objects.filter(states, quarantine.is_due(), purpose=Purpose.CLOSE).order_by("pk")
    orders = [
        DueOrder(pk, at, account, state == OrderState.PLANNED)
        for pk, at, account, state in rows.values_list("pk", "venue", "account", "state")
    ]
    return sorted(orders, key=lambda due: not due.planned)


def process(due: DueOrder, counts: ExitPassCounts) -> None:
    """Place the order if it is planned, settle it if it is in flight."""
    order = Order.objects.select_related("deployment__agent", "signal").get(pk=due.pk)
    with quarantine.quarantine_on_error(order):
        if order.state == OrderState.PLANNED:
            counts.count_placed(execute.place_order(order, venue(order.venue), policy()))
        elif order.state in IN_FLIGHT:
            counts.count_settled(settle.settle(order, venue(order.venue)))


class Lanes:
    """A thread pool per venue, of `size` threads, that runs at most one order of an account at a time.

    With `size` 0 there are no threads: `start` runs the work in the caller's thread.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._under_way: dict[DueOrder, Future[None]] = {}

    def under_way(self) -> set[DueOrder]:
        """Return the orders being processed now, including those of earlier passes."""
        self._under_way = {due: step for due, step in self._under_way.items() if not step.done()}
        return set(self._under_way)

    def start(self, due: DueOrder, work: Callable[[], None]) -> bool:
        """Start `work` unless the account or all threads of its venue are busy; return whether it was started."""
        if not self.size:
            work()
            return True
        busy = [other.account for other in self.under_way() if other.venue == due.venue]
        if due.account in busy or len(busy) >= self.size:
            return False
        pool = self._pools.setdefault(due.venue, ThreadPoolExecutor(self.size, f"exits-{due.venue}"))
        self._under_way[due] = pool.submit(copy_context().run, _in_thread, work)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for any running order to finish; return whether one did."""
        steps = [self._under_way[due] for due in self.under_way()]
        return bool(wait(steps, max(seconds, 0), FIRST_COMPLETED).done) if steps else False


def _in_thread(work: Callable[[], None]) -> None:
    """Run `work` with the thread's own database connection. After an error the next pass processes the order again."""
    try:
        work()
    except Exception as error:
        log.exception("closing_step_failed", error=str(error))
    finally:
        connection.close()


def run(claim: Callable[[], int], lanes: Lanes) -> ExitPassCounts:
    """Claim due exits, place their closing orders and settle those in flight, until nothing is left to do.

    `claim` closes positions whose exit is due and returns how many; it is called at the start and every
    `sweep_milliseconds`. Each order is placed once and settled once per pass. When the time budget runs out, the next
    pass is woken at once.
    """
    rules = passes.policy().exits
    budget, counts = passes.TimeBudget(rules.pass_seconds), ExitPassCounts()
    started_orders = lanes.under_way()
    waiting: list[DueOrder] = []
    next_claim, moved = float("-inf"), time.monotonic()
    while budget.left():
        if time.monotonic() >= next_claim:
            counts.claimed += claim()
            next_claim = time.monotonic() + rules.sweep_seconds
            waiting = [due for due in due_orders() if due not in started_orders]
        started = {
            due for due in waiting if budget.left() and lanes.start(due, partial(process, due, counts))
        }
        started_orders |= started
        waiting = [due for due in waiting if due not in started]
        if not waiting and (waiting := [due for due in due_orders() if due not in started_orders]):
            continue
        if lanes.wait(next_claim - time.monotonic()) or started:
            moved = time.monotonic()
        elif not waiting and (not lanes.under_way() or time.monotonic() - moved >= rules.idle_seconds):
            break
    if waiting:
        wake.after_commit("exits.waiting")
    return counts
