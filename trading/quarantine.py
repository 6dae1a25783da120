"""Quarantine an order whose processing raised an unexpected error three times, so that it cannot block the others.

An entry order that was not sent yet stays quarantined until an operator redrives it. Any other order either closes a
position or may have reached its venue, so its processing is retried with increasing delays (an order is never sent
twice: the venue is asked first), and staff is alerted again and again while it keeps failing.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least

from maxxit.core import clock, correlation, redact
from maxxit.core.errors import StaleState
from maxxit.core.terms import Purpose
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading.models import Order
from trading.passes import TimeBudget, ends_the_pass, policy
from trading.rows import load_orders
from trading.states import OrderState

log = structlog.get_logger(__name__)

TRIES = 3
MAX_ATTEMPTS = 30_000
"""Failures are counted up to here: the column is a smallint, and an exit is retried without limit."""


@contextmanager
def quarantine_on_error(order: Order) -> Iterator[None]:
    """Process one order inside this block: an unexpected error is counted and logged, and the caller goes on."""
    with correlation.under(order.correlation_id):
        try:
            yield
        except StaleState:
            log.info("order_already_moved", order=order.pk)
        except Exception as error:
            if ends_the_pass(error):
                raise
            log.exception("order_step_failed", order=order.pk, error=str(error))
            _count_failure(order, error)
        else:
            if order.attempts >= TRIES:  # it works again
                redrive([order.pk])


def is_retried(order: Order) -> bool:
    """Return whether the order is retried without an operator: every order except an entry that was not sent."""
    return order.purpose == Purpose.CLOSE or order.state != OrderState.PLANNED


def _count_failure(order: Order, error: Exception) -> None:
    """Count the failure; quarantine the order at the third, and schedule its retry if it is retried automatically."""
    failures = order.attempts + 1
    retried = failures >= TRIES and is_retried(order)
    retry_at = clock.now() + policy().quarantine.retry_delay(failures - TRIES + 1) if retried else None
    Order.objects.filter(pk=order.pk).update(
        attempts=Least(F("attempts") + 1, MAX_ATTEMPTS),
        last_error=redact.text(traceback.format_exc(limit=-12)),
        retry_at=retry_at,
    )
    if failures == TRIES or (failures > TRIES and _alert_is_due(order)):
        record("order.quarantined", order, error=redact.text(str(error))[:300], failures=failures)


def _alert_is_due(order: Order) -> bool:
    """Return whether the last alert for this order is older than `alert_again_minutes`."""
    since = clock.now() - timedelta(minutes=policy().quarantine.alert_again_minutes)
    alerts = Event.objects.filter(name="order.quarantined", subject=subject(order))
    return not alerts.filter(at__gt=since).exists()


def is_due() -> Q:
    """Return the filter for orders that may be processed now: not quarantined, or due for a retry."""
    return Q(attempts__lt=TRIES) | Q(retry_at__lte=clock.now())


T = TypeVar("T")
R = TypeVar("R")


def by_halves(
    rows: Sequence[T], step: Callable[[Sequence[T]], list[R]], failed: Callable[[T, Exception], None]
) -> list[R]:
    """Run `step(rows)`; where it raises, run its halves, so that one bad row does not stop the others.

    `step` must be one transaction: a failed try leaves nothing behind. `failed` gets the row that fails alone, with its
    error. Return what `step` returned, in the order of the rows. Errors that end the pass are raised.
    """
    if not rows:
        return []
    try:
        return step(rows)
    except Exception as error:
        if ends_the_pass(error):
            raise
        if len(rows) == 1:
            failed(rows[0], error)
            return []
        log.warning("batch_split", rows=len(rows), error=str(error))
    middle = len(rows) // 2
    return by_halves(rows[:middle], step, failed) + by_halves(rows[middle:], step, failed)


def count_failure(order: Order, error: Exception) -> None:
    """Count an unexpected error of one order, as `quarantine_on_error` does."""
    with quarantine_on_error(order):
        raise error


@contextmanager
def counted_for_each(orders: Sequence[Order]) -> Iterator[None]:
    """Process a batch inside this block: an error that belongs to no single order is counted for each of them."""
    try:
        yield
    except Exception as error:
        if ends_the_pass(error):
            raise
        for order in orders:
            count_failure(order, error)


def redrive_working(orders: Iterable[Order]) -> None:
    """Give the quarantined ones among `orders`, which were processed without an error, new tries."""
    if working := [order.pk for order in orders if order.attempts >= TRIES]:
        redrive(working)


@dataclass(frozen=True, slots=True)
class Due:
    """An order that may be processed now."""

    pk: int
    venue: str
    account: str


def due(orders: QuerySet[Order], after: int = 0) -> list[Due]:
    """Return the due rows of `orders`, oldest first; those with an id above `after` before the others.

    With `after` a pass resumes where the previous one was cut off.
    """
    rows = orders.filter(is_due()).order_by("pk").values_list("pk", "venue", "account")
    waiting = [Due(*row) for row in rows]
    return [row for row in waiting if row.pk > after] + [row for row in waiting if row.pk <= after]


def batches(
    orders: QuerySet[Order],
    waiting: Sequence[Due],
    size: Callable[[str], int],
    budget: TimeBudget | None = None,
) -> Iterator[list[Order]]:
    """Yield the `waiting` rows of `orders` in batches of one venue, within `budget`.

    A batch has at most one order of an account, so that an account's next order is sized after this one's fills. The
    wide rows are loaded batch by batch: most passes find nothing to do, and a crowd does not fill the memory.

    Args:
        size: venue -> orders in a batch at most.
    """
    for batch in _by_venue(waiting, size):
        if budget is not None and not budget.left():
            return
        rows = {order.pk: order for order in load_orders(orders.filter(pk__in=batch), count=len(batch))}
        if rows:
            yield [rows[pk] for pk in batch if pk in rows]


def _by_venue(waiting: Sequence[Due], size: Callable[[str], int]) -> Iterator[list[int]]:
    """Cut orders into batches of one venue. A batch comes where its first order stands."""
    batches: list[dict[str, int]] = []
    filling: dict[str, dict[str, int]] = {}
    """Venue -> account -> order, of the batch that is being filled."""
    for order in waiting:
        batch = filling.get(order.venue)
        if batch is None or order.account in batch or len(batch) >= size(order.venue):
            batch = filling[order.venue] = {}
            batches.append(batch)
        batch[order.account] = order.pk
    for batch in batches:
        yield list(batch.values())


def redrive(ids: Sequence[int]) -> int:
    """Give quarantined orders another three tries; return how many were quarantined."""
    quarantined = Order.objects.filter(pk__in=ids, attempts__gte=TRIES)
    return quarantined.update(attempts=0, last_error="", retry_at=None)
