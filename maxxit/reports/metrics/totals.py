"""Counters for Prometheus: totals of events, passes and model calls, kept in the database.

Whatever process wrote a row and on whatever machine, it is counted once: each scrape adds the rows since the last.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from django.db import connection, transaction
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from maxxit.events.log import FinalId
from maxxit.pipeline.models import MetricCursor, MetricTotal

log = structlog.get_logger(__name__)
BUCKETS = ("0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf")
"""Upper bounds in seconds."""
MOST = 200_000
"""Rows of each table that one scrape counts."""

ADD = "ON CONFLICT (name, labels) DO UPDATE SET value = metric_totals.value + excluded.value"
LATENCY = """
SELECT '{name}_bucket', jsonb_build_object({label}, 'le', b.le), count(*)
FROM counted r JOIN unnest(%(buckets)s::text[]) AS b (le) ON r.seconds <= b.le::float8 GROUP BY 2
UNION ALL
SELECT '{name}_sum', jsonb_build_object({label}), sum(r.seconds) FROM counted r GROUP BY 2
"""

EVENTS = f"""
WITH counted AS MATERIALIZED (
    SELECT name, CASE name WHEN 'execution.blocked' THEN data->>'reason' END AS reason, count(*) AS n
    FROM events WHERE id > %(after)s AND id <= %(until)s GROUP BY 1, 2
)
INSERT INTO metric_totals (name, labels, value)
SELECT 'events_processed', jsonb_build_object('event', name), sum(n) FROM counted GROUP BY name
UNION ALL
SELECT 'risk_decisions',
    jsonb_build_object('decision', CASE name WHEN 'order.sending' THEN 'allowed' ELSE 'blocked' END,
                       'reason', coalesce(reason, '')),
    sum(n)
FROM counted WHERE name IN ('order.sending', 'execution.blocked') GROUP BY 2
{ADD}
"""  # noqa: S608 (constants)
PASSES = f"""
WITH counted AS MATERIALIZED (
    SELECT stage, error <> '' AS failed, coalesce(duration_ms, 0) / 1000.0 AS seconds
    FROM stage_runs WHERE id > %(after)s AND id <= %(until)s AND NOT idle
)
INSERT INTO metric_totals (name, labels, value)
SELECT 'stage_passes', jsonb_build_object('stage', stage), count(*) FROM counted GROUP BY stage
UNION ALL
SELECT 'events_failed', jsonb_build_object('stage', stage), count(*) FILTER (WHERE failed) FROM counted GROUP BY stage
UNION ALL
{LATENCY.format(name="event_latency_seconds", label="'stage', r.stage")}
{ADD}
"""  # noqa: S608 (constants)
CALLS = f"""
WITH counted AS MATERIALIZED (
    SELECT provider, purpose, status, cost_usd, latency_ms / 1000.0 AS seconds
    FROM llm_traces WHERE id > %(after)s AND id <= %(until)s
)
INSERT INTO metric_totals (name, labels, value)
SELECT 'llm_calls', jsonb_build_object('provider', provider, 'purpose', purpose, 'status', status), count(*)
FROM counted GROUP BY 2
UNION ALL
SELECT 'llm_cost_usd', jsonb_build_object('provider', provider), sum(cost_usd) FROM counted GROUP BY 2
UNION ALL
{LATENCY.format(name="llm_latency_seconds", label="'provider', r.provider")}
{ADD}
"""  # noqa: S608 (constants)
SOURCES = {"events": EVENTS, "stage_runs": PASSES, "llm_traces": CALLS}
"""Table -> the statement that counts a range of its rows."""
_final = {table: FinalId(table=table) for table in SOURCES}
"""Rows beyond it wait for the next scrape: one with a lower id may not be committed yet."""

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "events_processed": ("events written, by name", ("event",)),
    "events_failed": ("passes of a stage that ended with an error", ("stage",)),
    "stage_passes": ("passes of a stage, without sweeps that found nothing to do", ("stage",)),
    "risk_decisions": ("orders that the checks let through or blocked", ("decision", "reason")),
    "llm_calls": ("calls of models that were traced", ("provider", "purpose", "status")),
    "llm_cost_usd": ("cost of traced calls, USD", ("provider",)),
}
HISTOGRAMS: Mapping[str, tuple[str, str]] = {
    "event_latency_seconds": ("duration of a pass of a stage", "stage"),
    "llm_latency_seconds": ("from question to answer of a model", "provider"),
}


def count_new_rows() -> None:
    """Add what was written since the last time. Where another scrape does it at this moment, do nothing.

    A table that cannot be counted is counted by a later scrape, and keeps no other from it.
    """
    for table, statement in SOURCES.items():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('metric totals', 0))")
                if not cursor.fetchone()[0]:
                    return
                _count(cursor, table, statement)
        except Exception:
            log.exception("totals_not_counted", table=table)


def _count(cursor: Any, table: str, statement: str) -> None:
    mark = MetricCursor.objects.filter(table=table).first()
    if mark is None:  # counting begins now: what is older belongs to no rate
        cursor.execute(f"SELECT coalesce(max(id), 0) FROM {table}")  # noqa: S608 (constants)
        MetricCursor.objects.create(table=table, last_id=cursor.fetchone()[0])
        return
    cursor.execute(
        f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > %s AND id <= %s ORDER BY id LIMIT %s) AS next",  # noqa: S608 (constants)
        [mark.last_id, _final[table].read(), MOST],
    )
    [until] = cursor.fetchone()
    if until is None:
        return
    cursor.execute(statement, {"after": mark.last_id, "until": until, "buckets": list(BUCKETS)})
    MetricCursor.objects.filter(table=table).update(last_id=until)


def metrics() -> Iterator[Metric]:
    """Yield the counters and histograms."""
    rows: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for total in MetricTotal.objects.order_by("name", "labels"):
        rows[total.name].append((total.labels, float(total.value)))
    for name, (what, labels) in COUNTERS.items():
        counter = CounterMetricFamily(f"maxxit_{name}", what, labels=list(labels))
        for found, value in rows[name]:
            counter.add_metric([found[label] for label in labels], value)
        yield counter
    for name, (what, label) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(f"maxxit_{name}", what, labels=[label])
        counts: dict[str, dict[str, float]] = defaultdict(dict)
        for found, value in rows[f"{name}_bucket"]:
            counts[found[label]][found["le"]] = value
        for found, whole in rows[f"{name}_sum"]:
            by_bound = counts[found[label]]
            histogram.add_metric([found[label]], [(le, by_bound.get(le, 0.0)) for le in BUCKETS], whole)
        yield histogram
