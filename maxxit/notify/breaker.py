"""The circuit breaker of an endpoint: after several failures in a row it rests, each time for longer.

While an endpoint rests its deliveries are not claimed, so they keep their tries. After the rest one delivery is
sent as a probe; its answer closes the circuit or doubles the rest.
"""

from datetime import timedelta

import structlog
from django.db.models import F

from maxxit.core import clock
from maxxit.notify.models import Endpoint
from maxxit.notify.policy import NotifyPolicy

log = structlog.get_logger(__name__)


def rest_seconds(failures: int, rules: NotifyPolicy) -> float:
    """How long an endpoint rests after `failures` in a row. Below the breaker's limit: the shortest retry wait."""
    beyond = failures - rules.breaker_failures
    if beyond < 0:
        return float(rules.first_wait_seconds)
    return float(min(rules.breaker_first_seconds * 2 ** min(beyond, 30), rules.breaker_most_seconds))


def failed(endpoint: Endpoint, rules: NotifyPolicy) -> None:
    """Count a failure to send and let the endpoint rest."""
    mine = Endpoint.objects.filter(pk=endpoint.pk)
    mine.update(failures=F("failures") + 1)
    endpoint.refresh_from_db(fields=["failures"])
    rest = rest_seconds(endpoint.failures, rules)
    mine.update(rests_until=clock.now() + timedelta(seconds=rest))
    if endpoint.failures >= rules.breaker_failures:
        log.warning("endpoint_rests", endpoint=endpoint.pk, failures=endpoint.failures, seconds=round(rest))


def answered(endpoint: Endpoint) -> None:
    """Close the circuit: the endpoint took a message, or refused it by an answer of its own."""
    Endpoint.objects.filter(pk=endpoint.pk, failures__gt=0).update(failures=0, rests_until=None)
