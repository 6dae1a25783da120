"""Circuit breaker of an endpoint: after several failures in a row it is paused, each time for longer.

Deliveries of a paused endpoint are not claimed, so they keep their tries. After the pause one delivery is sent as a
probe; its outcome closes the circuit or doubles the pause.
"""

from collections.abc import Collection
from datetime import timedelta

import structlog
from django.db.models import F

from maxxit.core import clock
from maxxit.notify.models import Endpoint
from maxxit.notify.policy import NotifyPolicy

log = structlog.get_logger(__name__)


def pause_seconds(failures: int, rules: NotifyPolicy) -> float:
    """Return the pause after `failures` in a row; below the breaker's limit the first retry wait."""
    beyond = failures - rules.breaker_failures
    if beyond < 0:
        return float(rules.first_wait_seconds)
    return float(min(rules.breaker_first_seconds * 2 ** min(beyond, 30), rules.breaker_most_seconds))


def failed(endpoint: Endpoint, rules: NotifyPolicy) -> None:
    """Count a failed send and pause the endpoint."""
    row = Endpoint.objects.filter(pk=endpoint.pk)
    row.update(failures=F("failures") + 1)
    endpoint.refresh_from_db(fields=["failures"])
    pause = pause_seconds(endpoint.failures, rules)
    row.update(rests_until=clock.now() + timedelta(seconds=pause))
    if endpoint.failures >= rules.breaker_failures:
        log.warning("endpoint_paused", endpoint=endpoint.pk, failures=endpoint.failures, seconds=round(pause))


def answered(endpoints: Collection[int]) -> None:
    """Close the circuits of endpoints that accepted a message, or answered with a rejection."""
    if endpoints:
        Endpoint.objects.filter(pk__in=endpoints, failures__gt=0).update(failures=0, rests_until=None)
