"""One reconciliation pass: look at the open orders and the holdings of every account that is due.

Accounts of a broker are read one by one in threads of their venue, those that failed or were slow last time in two
threads of their own; accounts of a venue that answers from our own database or in one call for many are read together.
A pass waits a few seconds for those that it started, and not for those that failed or were slow last time: they go on
in their threads and count in a later pass.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import structlog
from django.db import connection

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.market import calendar
from maxxit.postgres import threads
from trading import passes
from trading.passes import ends_the_pass
from trading.reconcile import VenueAccount
from trading.reconciliation import checks, holdings, hours
from trading.reconciliation.checks import Claim, Kind
from trading.reconciliation.orders import OrderCounts, Unread, reconcile_orders
from trading.wiring import venue

log = structlog.get_logger(__name__)
SLOW_THREADS = 2
TOGETHER = 100
"""Accounts that are read together where the venue needs no keys of each."""


@dataclass
class Tally:
    """What was read since the last report; filled from several threads."""

    orders: OrderCounts = field(default_factory=OrderCounts)
    accounts: int = 0
    """Accounts whose orders or holdings were read."""
    failed: int = 0
    """Accounts that could not be read."""
    closed: int = 0
    """Accounts that were not asked because their market is closed."""
    differences: int = 0
    """Accounts that differ from the ledger."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, counts: OrderCounts | None = None, **numbers: int) -> None:
        """Add the numbers of one account."""
        with self._lock:
            if counts is not None:
                self.orders.add(counts)
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)

    def take(self) -> "Tally":
        """Return the numbers so far and begin again."""
        with self._lock:
            taken = Tally(self.orders, self.accounts, self.failed, self.closed, self.differences)
            self.orders, self.accounts, self.failed, self.closed, self.differences = (
                OrderCounts(), 0, 0, 0, 0,
            )  # fmt: skip
        return taken

    def as_json(self) -> dict[str, int]:
        """Return the numbers for JSON and the log."""
        names = ("pending_found", "updated", "became_terminal", "unchanged", "errors", "skipped")
        return {name: getattr(self.orders, name) for name in names} | {
            "accounts": self.accounts, "failed": self.failed, "closed": self.closed, "differences": self.differences,
        }  # fmt: skip


class Reader:
    """Threads per venue, and what they read. With `lanes` 0 everything is read in the caller's thread."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.tally = Tally()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._running: dict[tuple[str, str, str], Future[None]] = {}
        self._awaited: set[Future[None]] = set()
        """What was started since the last `wait`, without the slow accounts."""

    def start(self, claims: Sequence[Claim], work: Callable[[], None]) -> None:
        """Run `work`, which reads these accounts of one venue, in a thread; skip accounts that are still being read."""
        if not self.lanes:
            work()
            return
        keys = [(one.venue, one.account, one.kind) for one in claims]
        self._running = {key: future for key, future in self._running.items() if not future.done()}
        if any(key in self._running for key in keys):
            return
        slow = any(one.is_slow for one in claims)
        name = f"{claims[0].venue}{' slow' if slow else ''}"
        size = SLOW_THREADS if slow else self.lanes
        pool = self._pools.setdefault(name, ThreadPoolExecutor(size, f"reconcile-{name}"))
        future = threads.submit(pool, work)
        self._running |= dict.fromkeys(keys, future)
        if not slow:
            self._awaited.add(future)

    def wait(self, seconds: float) -> None:
        """Wait for what was started since the last call, `seconds` at most, and not for slow accounts."""
        wait(self._awaited, seconds)
        self._awaited.clear()

    def wait_for_all(self) -> None:
        """Wait for every account that is being read."""
        wait(set(self._running.values()))


@cache
def _of_this_process() -> Reader:
    log.info("reconcile_loop_started", interval=passes.policy().reconcile.orders_seconds)
    return Reader(passes.policy().reconcile.lanes)


def run_due() -> dict[str, Any]:
    """Look at what is due, with this worker's threads; return the numbers of the pass. The job calls it."""
    reader = _of_this_process()
    run(reader, now=clock.now())
    reader.wait(passes.policy().reconcile.pass_seconds)
    return report(reader)


def run_now(
    *,
    kinds: Sequence[str] = tuple(Kind),
    venues: Sequence[str] | None = None,
    accounts: Collection[VenueAccount] | None = None,
    closed_too: bool = False,
) -> dict[str, Any]:
    """Look at accounts at once, due or not, and wait for all of them; return the numbers.

    Without `venues` and `accounts` every account is read. Inside a transaction everything is read in this thread:
    others would not see its rows.
    """
    reader = Reader(0 if connection.in_atomic_block else passes.policy().reconcile.lanes)
    run(
        reader, now=clock.now(), kinds=kinds, venues=venues, accounts=accounts, everything=True,
        closed_too=closed_too,
    )  # fmt: skip
    reader.wait_for_all()
    return report(reader)


def run(
    reader: Reader,
    *,
    now: datetime,
    kinds: Sequence[str] = tuple(Kind),
    venues: Sequence[str] | None = None,
    accounts: Collection[VenueAccount] | None = None,
    everything: bool = False,
    closed_too: bool = False,
) -> None:
    """Claim the accounts that are due and start reading them."""
    for kind in kinds:
        most = 10**9 if everything else None
        claims = checks.claim(
            kind, now=now, venues=venues, accounts=accounts, everything=everything, most=most
        )
        by_venue: defaultdict[str, list[Claim]] = defaultdict(list)
        for one in claims:
            by_venue[one.venue].append(one)
        for name, of_venue in by_venue.items():
            _start(reader, name, kind, of_venue, now, closed_too=closed_too)


def _start(
    reader: Reader, name: str, kind: str, claims: Sequence[Claim], now: datetime, *, closed_too: bool
) -> None:
    """Start reading the accounts of one venue. A venue that cannot be opened fails its own accounts alone."""
    try:
        together = not venue(name).credential_fields
        closed = not closed_too and hours.is_wholly_closed(name, now)
    except Exception as error:
        for one in claims:
            _failed(reader, one, error)
        return
    if closed:
        log.info(checks.MARKET_CLOSED, venue=name, accounts=len(claims), kind=kind)
        for one in claims:
            checks.note_read(one, result=checks.MARKET_CLOSED)
        reader.tally.add(closed=len(claims))
        return
    size = TOGETHER if together else 1
    for place in range(0, len(claims), size):
        batch = claims[place : place + size]
        step = _orders if kind == Kind.ORDERS else _positions
        reader.start(batch, partial(step, reader, batch, closed_too))


def _orders(reader: Reader, claims: Sequence[Claim], closed_too: bool) -> None:
    """Reconcile the open orders of accounts of one venue."""
    began = clock.now()
    try:
        counts = reconcile_orders(claims[0].venue, [one.account for one in claims], closed_too=closed_too)
    except Exception as error:  # failing accounts must not hide others
        if ends_the_pass(error):
            raise
        if isinstance(error, Unread):
            reader.tally.add(error.counts)
        for one in claims:
            _failed(reader, one, error, clock.now() - began)
        return
    waits = bool(counts.skipped and not counts.pending_found)
    for one in claims:
        checks.note_read(one, result=checks.MARKET_CLOSED if waits else checks.READ, took=clock.now() - began)
    reader.tally.add(counts, **{"closed" if waits else "accounts": len(claims)})


def _positions(reader: Reader, claims: Sequence[Claim], closed_too: bool) -> None:
    """Compare what accounts of one venue hold with the ledger."""
    began = clock.now()
    compared = holdings.look({(one.venue, one.account) for one in claims})
    took = clock.now() - began
    for one in claims:
        key = (one.venue, one.account)
        if key in compared.unread:
            _failed(
                reader, one, Retryable("the venue did not answer; see the log line account_not_read"), took
            )
            continue
        checks.note_read(one, took=took)
        reader.tally.add(accounts=1, differences=int(key in compared.differences))


def _failed(reader: Reader, one: Claim, error: Exception, took: timedelta = timedelta(0)) -> None:
    delay = checks.note_failure(one, error, took=took)
    reader.tally.add(failed=1)
    log.warning(
        "account_not_reconciled", venue=one.venue, account=one.account, kind=one.kind, failures=one.failures + 1,
        retry_in=delay.total_seconds(), error=str(error),
    )  # fmt: skip


def report(reader: Reader) -> dict[str, Any]:
    """Log what was read since the last report, and return it."""
    numbers = reader.tally.take().as_json()
    now, due = clock.now(), checks.next_orders_due()
    market_hours = calendar.is_open(now)
    next_run_in = (
        max(0, round((due - now).total_seconds())) if due else passes.policy().reconcile.orders_seconds
    )
    if any(numbers.values()):
        log.info("RECONCILE_CYCLE", **numbers, market_hours=market_hours, next_run_in=next_run_in)
    return numbers | {"market_hours": market_hours, "next_run_in": next_run_in}
