"""The machine's own gauges: jobs, stages, queues, feeds, health checks, orders in flight, models."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import structlog
from django.db.models import Count, Max, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.llm.models import LlmTrace
from maxxit.market.models import Quote
from maxxit.pipeline.models import CanaryMark
from maxxit.pipeline.stages import SWEEPS
from maxxit.reports import checks, status
from maxxit.reports.metrics.gauges import gauge
from maxxit.reports.operators.health import Health, read_health
from trading.models import Order
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)
CHECKED_EVERY = 60.0
"""Seconds. The checks ask every endpoint and feed: more than one scrape in 15 s should cost."""
RECENT = timedelta(days=1)
"""For so long an alert of the day counts, and a model that was asked is in use."""


def metrics() -> Iterator[Metric]:
    """Yield them; the lengths of queues are left out where Redis cannot be read."""
    now = timezone.now()
    jobs = status.jobs()
    lags = {job.name: job.lag_seconds for job in jobs}
    yield gauge("job_lag_seconds", "delay of each job", lags, "job")
    last = {job.task: job.last_run for job in jobs}
    ages = {stage.name: (now - at).total_seconds() for stage in SWEEPS if (at := last.get(stage.task))}
    yield gauge("stage_age_seconds", "seconds since the last pass of each stage", ages, "stage")
    signed = {mark.queue: (now - mark.signed_at).total_seconds() for mark in CanaryMark.objects.all()}
    yield gauge("canary_age_seconds", "seconds since a worker of each queue answered", signed, "queue")
    newest = Quote.objects.values_list("source").annotate(Max("at"))
    feeds = {source: (now - at).total_seconds() for source, at in newest.order_by()}
    yield gauge("feed_age_seconds", "seconds since the newest price of each source", feeds, "source")
    flying = Order.objects.filter(state__in=IN_FLIGHT).order_by().values_list("state")
    orders = {state: (count, at) for state, count, at in flying.annotate(Count("pk"), Min("updated_at"))}
    counts = {str(state): float(orders[state][0]) if state in orders else 0.0 for state in sorted(IN_FLIGHT)}
    yield gauge("orders", "orders in flight, by state", counts, "state")
    oldest = {str(state): (now - at).total_seconds() for state, (_, at) in orders.items()}
    yield gauge("order_age_seconds", "seconds since the oldest of them changed", oldest, "state")
    low = Event.objects.filter(name="executor.balance_low", at__gt=now - RECENT)
    what = "executors whose balance was found too low within a day"
    yield gauge("executors_low", what, {"": low.order_by().values("subject").distinct().count()})
    yield _checks()
    yield _models()
    try:
        waiting = {queue: float(length) for queue, length in checks.queue_lengths().items()}
    except RedisError as error:
        log.warning("queues_not_read", error=str(error))
        return
    yield gauge("queue_length", "messages waiting in each queue", waiting, "queue")


class _Checks:
    """The newest result of the health page's checks, which run once in `CHECKED_EVERY` for all scrapes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._result: Health | None = None
        self._read_at = 0.0

    def read(self) -> Health:
        """Return the result; a scrape that finds it too old runs the checks, and another waits for it."""
        with self._lock:
            if self._result is None or time.monotonic() - self._read_at >= CHECKED_EVERY:
                self._result = read_health()
                self._read_at = time.monotonic()
            return self._result

    def forget(self) -> None:
        """Run the checks again at the next scrape."""
        self._result = None


health = _Checks()


def _checks() -> Metric:
    """The checks of the health page, at most `CHECKED_EVERY` old. Some are there only while they fail."""
    found = GaugeMetricFamily(
        "maxxit_check_failing", "1 for a check of the health page that fails", labels=["section", "check"]
    )
    for section in health.read().sections:
        for check in section.checks:
            found.add_metric([section.name, check.name], float(not check.ok))
    return found


def _models() -> Metric:
    """The models that answered within a day, with the prompt they got."""
    names = ("purpose", "provider", "model", "prompt_sha256")
    found = GaugeMetricFamily(
        "maxxit_model_version_info", "1 for a model in use, and its prompt", labels=names
    )
    recent = LlmTrace.objects.filter(ts__gt=clock.now() - RECENT, status="ok")
    for values in recent.order_by(*names).values_list(*names).distinct():
        found.add_metric(values, 1.0)
    return found
