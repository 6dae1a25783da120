"""The counters of `/metrics` count each row once, however many scrapes there are."""

from decimal import Decimal

import pytest
from django.db import connections
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from maxxit.core import clock
from maxxit.events.log import FinalId
from maxxit.events.record import NewEvent, write
from maxxit.llm.models import LlmTrace
from maxxit.pipeline.models import MetricCursor, StageRun
from maxxit.reports.metrics import platform, totals
from maxxit.reports.operators.health import Health
from tests.builders import RecordedClock
from tests.events.writers import another_connection, insert

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def counting(time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> RecordedClock:
    """Counting has begun; the rows of a test come after."""
    for table in totals.SOURCES:
        monkeypatch.setitem(totals._final, table, FinalId(table=table))
    monkeypatch.setattr(platform, "CHECKED_EVERY", 0.0)
    totals.count_new_rows()
    return time


def scraped() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus reads: (name, labels) -> value."""
    text = Client().get("/metrics").content.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float:
    """One value of a scrape; zero where the series is not there."""
    return scraped().get((f"maxxit_{name}", tuple(sorted(labels.items()))), 0.0)


def happen(*names: str, reason: str = "") -> None:
    """Write events."""
    write([NewEvent(name, "trading.order/1", None, {"reason": reason} if reason else {}) for name in names])


def test_each_event_is_counted_once(counting: RecordedClock) -> None:
    happen("order.planned", "order.planned", "order.filled")
    for _ in range(3):
        assert value("events_processed_total", event="order.planned") == 2
    happen("order.planned")
    assert value("events_processed_total", event="order.planned") == 3
    assert value("events_processed_total", event="order.filled") == 1


def test_what_was_there_before_belongs_to_no_rate(counting: RecordedClock) -> None:
    happen("order.planned")
    MetricCursor.objects.all().delete()
    totals.count_new_rows()
    assert value("events_processed_total", event="order.planned") == 0


def test_decisions_of_the_checks_have_their_reason(counting: RecordedClock) -> None:
    happen("order.sending")
    happen("execution.blocked", "execution.blocked", reason="cooldown")
    happen("execution.blocked", reason="no_price")
    assert value("risk_decisions_total", decision="allowed", reason="") == 1
    assert value("risk_decisions_total", decision="blocked", reason="cooldown") == 2
    assert value("risk_decisions_total", decision="blocked", reason="no_price") == 1


def test_passes_and_their_failures(counting: RecordedClock) -> None:
    for milliseconds, error in ((90, ""), (700, ""), (7_000, "RuntimeError: no")):
        StageRun.objects.create(
            stage="execute", started_at=clock.now(), duration_ms=milliseconds, counted_in=1, error=error
        )
    assert value("stage_passes_total", stage="execute") == 3
    assert value("events_failed_total", stage="execute") == 1
    idle = {"stage": "execute", "started_at": clock.now(), "duration_ms": 1}
    StageRun.objects.create(**idle, idle=True)
    assert value("stage_passes_total", stage="execute") == 3, "a sweep that found nothing is no pass"
    seen = scraped()
    below = {
        le: seen[("maxxit_event_latency_seconds_bucket", (("le", le), ("stage", "execute")))]
        for le in ("0.1", "0.5", "1.0", "5.0", "10.0", "+Inf")
    }
    assert list(below.values()) == [1, 1, 2, 2, 3, 3]
    assert seen[("maxxit_event_latency_seconds_sum", (("stage", "execute"),))] == pytest.approx(7.79)
    assert seen[("maxxit_event_latency_seconds_count", (("stage", "execute"),))] == 3


def test_calls_of_models(counting: RecordedClock) -> None:
    for status, cost in (("ok", "0.002"), ("ok", "0.003"), ("error", "0")):
        LlmTrace.objects.create(
            ts=clock.now(),
            purpose="classify",
            provider="openai",
            model="gpt-x",
            prompt_sha256="ab" * 32,
            latency_ms=1_200,
            status=status,
            cost_usd=Decimal(cost),
        )
    assert value("llm_calls_total", provider="openai", purpose="classify", status="ok") == 2
    assert value("llm_calls_total", provider="openai", purpose="classify", status="error") == 1
    assert value("llm_cost_usd_total", provider="openai") == pytest.approx(0.005)
    assert value("llm_latency_seconds_bucket", provider="openai", le="1.0") == 0
    assert value("llm_latency_seconds_bucket", provider="openai", le="2.5") == 3
    model = {"purpose": "classify", "provider": "openai", "model": "gpt-x", "prompt_sha256": "ab" * 32}
    assert value("model_version_info", **model) == 1


def test_a_long_backlog_is_counted_in_parts(counting: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "MOST", 2)
    happen(*["order.planned"] * 5)
    assert [value("events_processed_total", event="order.planned") for _ in range(4)] == [2, 4, 5, 5]


@pytest.mark.django_db(transaction=True)
def test_two_scrapes_at_once_count_a_row_once(counting: RecordedClock) -> None:
    happen("order.planned")
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            other.set_autocommit(False)
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('metric totals', 0))")
            assert value("events_processed_total", event="order.planned") == 0  # it does not wait
            other.rollback()
    finally:
        other.close()
    assert value("events_processed_total", event="order.planned") == 1


@pytest.mark.django_db(transaction=True)
def test_a_row_below_one_that_is_not_committed_yet_is_counted_later_and_once(counting: RecordedClock) -> None:
    with another_connection() as slow:
        insert(slow)
        happen("order.planned")
        counting.move(hours=1)
        assert value("events_processed_total", event="order.planned") == 0, "a lower id may still come"
        slow.commit()
    found = [value("events_processed_total", event="order.planned") for _ in range(2)]
    assert found == [1, 1]


def test_a_table_that_cannot_be_counted_keeps_no_metric_from_a_scrape(
    counting: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(totals.SOURCES, "events", "SELECT broken")
    happen("order.planned")
    StageRun.objects.create(stage="execute", started_at=clock.now(), duration_ms=5, counted_in=1)
    assert value("stage_passes_total", stage="execute") == 1
    assert value("events_processed_total", event="order.planned") == 0


def test_scrapes_share_the_checks_of_the_health_page(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    def read_health() -> Health:
        ran.append(1)
        return Health([])

    monkeypatch.setattr(platform, "CHECKED_EVERY", 60.0)
    monkeypatch.setattr(platform, "read_health", read_health)
    shared = platform._Checks()
    shared.read()
    shared.read()
    assert len(ran) == 1
    monkeypatch.setattr(platform, "CHECKED_EVERY", 0.0)
    shared.read()
    assert len(ran) == 2
