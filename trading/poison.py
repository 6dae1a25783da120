"""An order whose step fails unexpectedly is tried three times and then set aside for a person.

It keeps its state and its traceback, the sweeps pass it by, and `redrive` gives it another three tries.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import F, QuerySet

from maxxit.core import correlation, redact
from maxxit.core.errors import StaleState
from maxxit.events.record import record
from trading.models import Order

log = structlog.get_logger(__name__)

TRIES = 3
AT_A_TIME = 200
"""Orders that `in_turn` holds in memory."""


@contextmanager
def watched(order: Order) -> Iterator[None]:
    """Run one order's step: a bug in it must not stop the others. A lost database does stop the pass."""
    with correlation.under(order.correlation_id):
        try:
            yield
        except StaleState:
            log.info("order_already_moved", order=order.pk)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            log.exception("order_step_failed", order=order.pk, error=str(error))
            told = redact.text(traceback.format_exc(limit=-12))
            Order.objects.filter(pk=order.pk).update(attempts=F("attempts") + 1, last_error=told)
            if order.attempts + 1 >= TRIES:
                record("order.quarantined", order, error=redact.text(str(error))[:300])


def in_turn(due: QuerySet[Order], *related: str, limit: int | None = None) -> Iterator[Order]:
    """The orders of `due` that are not quarantined, the oldest first, each with its `related` rows.

    The ids are asked for first: most passes find nothing to do, and the wide rows of others need not be read.
    """
    waiting = list(due.filter(attempts__lt=TRIES).order_by("pk").values_list("pk", flat=True)[:limit])
    for start in range(0, len(waiting), AT_A_TIME):
        together = due.filter(pk__in=waiting[start : start + AT_A_TIME])
        yield from together.select_related(*related).order_by("pk")


def redrive(ids: Sequence[int]) -> int:
    """Give quarantined orders another three tries; returns how many there were."""
    return Order.objects.filter(pk__in=ids, attempts__gte=TRIES).update(attempts=0, last_error="")
