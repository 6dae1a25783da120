"""An order whose step fails unexpectedly is tried three times and then quarantined.

A planned entry is then set aside until a person redrives it. Any other order closes a position or may hold money at
its venue: it rests for a growing while and is tried again, and staff is alerted again for as long as it lasts.
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
MOST_ATTEMPTS = 30_000
"""Failures are counted up to here: the column is a smallint, and an exit is tried for as long as it takes."""
AT_A_TIME = 200
"""Orders that `oldest_first` holds in memory."""
ENDS_THE_PASS = (OperationalError, InterfaceError, SoftTimeLimitExceeded)
"""A lost database and a task that took too long say nothing of the order that was under way: the pass ends, no order
is charged with it, and the next pass goes on. (A worker's shutdown is a SystemExit, and passes through anyway.)"""


@contextmanager
def quarantine_on_error(order: Order) -> Iterator[None]:
    """Run one order's step: a bug in it must not stop the others."""
    with correlation.under(order.correlation_id):
        try:
            yield
        except StaleState:
            log.info("order_already_moved", order=order.pk)
        except ENDS_THE_PASS:
            raise
        except Exception as error:
            log.exception("order_step_failed", order=order.pk, error=str(error))
            _charge(order, error)
        else:
            if order.attempts >= TRIES:  # it works again
                redrive([order.pk])


def is_retried(order: Order) -> bool:
    """Whether the order is tried again by itself: all but an entry that has not left."""
    return order.purpose == Purpose.CLOSE or order.state != OrderState.PLANNED


def _charge(order: Order, error: Exception) -> None:
    """Count the failure; quarantine the order at the third, and let it rest where it is tried again."""
    failures = order.attempts + 1
    rest = failures >= TRIES and is_retried(order)
    retry_at = clock.now() + policy().quarantine.rest(failures - TRIES + 1) if rest else None
    Order.objects.filter(pk=order.pk).update(
        attempts=Least(F("attempts") + 1, MOST_ATTEMPTS),
        last_error=redact.text(traceback.format_exc(limit=-12)),
        retry_at=retry_at,
    )
    if failures == TRIES or (failures > TRIES and _alert_is_due(order)):
        record("order.quarantined", order, error=redact.text(str(error))[:300], failures=failures)


def _alert_is_due(order: Order) -> bool:
    """Whether staff was last alerted to this order so long ago that it is told again."""
    since = clock.now() - timedelta(minutes=policy().quarantine.alert_again_minutes)
    alerts = Event.objects.filter(name="order.quarantined", subject=subject(order))
    return not alerts.filter(at__gt=since).exists()


def due() -> Q:
    """The orders that may be tried now: neither set aside nor resting after a failure."""
    return Q(attempts__lt=TRIES) | Q(retry_at__lte=clock.now())


def oldest_first(
    orders: QuerySet[Order],
    *related: str,
    limit: int | None = None,
    after: int = 0,
    budget: TimeBudget | None = None,
) -> Iterator[Order]:
    """Those of `orders` that are due, the oldest first, each with its `related` rows; none once `budget` is used up.

    Orders beyond the id `after` come before the others, so that a pass goes on where the last one was cut.
    The ids are asked for first: most passes find nothing to do, and the wide rows of others need not be read.
    """
    waiting = list(orders.filter(due()).order_by("pk").values_list("pk", flat=True)[:limit])
    turn = [pk for pk in waiting if pk > after] + [pk for pk in waiting if pk <= after]
    for start in range(0, len(turn), AT_A_TIME):
        part = turn[start : start + AT_A_TIME]
        rows = {one.pk: one for one in orders.filter(pk__in=part).select_related(*related)}
        for pk in part:
            if budget is not None and not budget.left():
                return
            if pk in rows:
                yield rows[pk]


def redrive(ids: Sequence[int]) -> int:
    """Give quarantined orders another three tries; returns how many there were."""
    quarantined = Order.objects.filter(pk__in=ids, attempts__gte=TRIES)
    return quarantined.update(attempts=0, last_error="", retry_at=None)
