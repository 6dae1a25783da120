"""Quarantine an order whose processing raised an unexpected error three times, so that it cannot block the others.

An entry order that was not sent yet stays quarantined until an operator redrives it. Any other order either closes a
position or may have reached its venue, so its processing is retried with increasing delays (an order is never sent
twice: the venue is asked first), and staff is alerted again and again while it keeps failing.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Least

from maxxit.core import clock, correlation, redact
from maxxit.core.errors import StaleState
from maxxit.core.terms import Purpose
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from trading.models import Order
from trading.passes import TimeBudget, policy
from trading.states import OrderState

log = structlog.get_logger(__name__)

TRIES = 3
MAX_ATTEMPTS = 30_000
"""Failures are counted up to here: the column is a smallint, and an exit is retried without limit."""
CHUNK = 200
"""Orders that `oldest_first` loads at a time."""
ENDS_THE_PASS = (OperationalError, InterfaceError, SoftTimeLimitExceeded)
"""A lost database connection or a task time limit is not the current order's fault: the pass ends, no failure is
counted, and the next pass continues. (A worker's shutdown raises SystemExit, which is not caught anyway.)"""


@contextmanager
def quarantine_on_error(order: Order) -> Iterator[None]:
    """Process one order inside this block: an unexpected error is counted and logged, and the caller goes on."""
    with correlation.under(order.correlation_id):
        try:
            yield
        except StaleState:
            log.info("order_already_moved", order=order.pk)
        except ENDS_THE_PASS:
            raise
        except Exception as error:
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


def oldest_first(
    orders: QuerySet[Order],
    *related: str,
    limit: int | None = None,
    after: int = 0,
    budget: TimeBudget | None = None,
) -> Iterator[Order]:
    """Yield the due rows of `orders`, oldest first, with their `related` rows, until `budget` is used up.

    Orders with an id above `after` come first, so that a pass resumes where the previous one was cut off. Only ids are
    read first: most passes find nothing to do and need not load the wide rows.
    """
    waiting = list(orders.filter(is_due()).order_by("pk").values_list("pk", flat=True)[:limit])
    ordered = [pk for pk in waiting if pk > after] + [pk for pk in waiting if pk <= after]
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        rows = {order.pk: order for order in orders.filter(pk__in=chunk).select_related(*related)}
        for pk in chunk:
            if budget is not None and not budget.left():
                return
            if pk in rows:
                yield rows[pk]


def redrive(ids: Sequence[int]) -> int:
    """Give quarantined orders another three tries; return how many were quarantined."""
    quarantined = Order.objects.filter(pk__in=ids, attempts__gte=TRIES)
    return quarantined.update(attempts=0, last_error="", retry_at=None)
