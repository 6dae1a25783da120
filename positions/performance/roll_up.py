"""Roll closed positions up into `pnl_parts`: a pass apart from the exits, which write none of it.

A batch adds the positions that closed between the watermark and a later moment and moves the watermark there, in one
transaction that holds the watermark's row: a pass that is killed has added a batch or has not, and two passes take
turns. The watermark stays behind transactions that may still commit a position with an earlier closing time.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from maxxit.core import clock
from positions.models import PnlPart, PnlWatermark
from positions.performance.splitting import CHOSEN, MEASURES, SUMS, split_into_parts
from trading.passes import TimeBudget

BATCH = 5_000
"""Positions per transaction; those that closed at the very moment of the last one are added with it."""
WORK_MEM_MB = 32
"""Memory of Postgres for the sums of a batch; with less it writes them to disk."""
STORED = ("total", "day", "token", "side", "exit_reason", "hour", "author", "posts")
"""The dimensions that are rolled up; deployments, agents and venues are read from the totals of deployments."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""The watermark before the first pass."""
BEHIND = timedelta(minutes=15)
"""How far the watermark stays behind the clock: `closed_at` is set seconds before its transaction commits."""

COMPLETE = """
SELECT least(%(latest)s::timestamptz, min(a.xact_start) - interval '1 minute')
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_xid IS NOT NULL
"""
"""Up to when no position can be missing: before each transaction that is still writing began."""
EDGE = """
SELECT p.closed_at + interval '1 microsecond' FROM positions p
WHERE p.state = 'closed' AND p.closed_at >= %(since)s AND p.closed_at < %(until)s
ORDER BY p.closed_at OFFSET %(batch)s - 1 LIMIT 1
"""
BETWEEN = "p.closed_at >= %(since)s AND p.closed_at < %(until)s"
ANY = f"SELECT FROM positions p WHERE p.state = 'closed' AND {BETWEEN} LIMIT 1"
ADD = f"""
WITH {split_into_parts(CHOSEN.format(condition=BETWEEN), STORED)},
added AS (
    INSERT INTO pnl_parts (deployment_id, day, dimension, key, {", ".join(MEASURES)})
    SELECT deployment_id, day, dimension, key, {SUMS} FROM split
    GROUP BY GROUPING SETS ((deployment_id, dimension, key), (dimension, key), (day, dimension, key))
    ON CONFLICT (dimension, deployment_id, day, key) DO UPDATE SET
    {", ".join(f"{name} = pnl_parts.{name} + excluded.{name}" for name in MEASURES)}
)
SELECT count(*) FROM chosen
"""  # noqa: S608 (constants only)


def roll_up(budget: TimeBudget | None = None) -> int:
    """Add the positions that have closed since the last pass; return how many.

    Ends when nothing is left or the time budget is used up; the next pass continues.
    """
    added = 0
    while budget is None or budget.left():
        positions, more = _add_batch(clock.now() - BEHIND)
        added += positions
        if not more:
            break
    return added


def watermark() -> datetime:
    """Return the moment before which every closed position is in the parts."""
    return PnlWatermark.objects.values_list("until", flat=True).first() or BEGINNING


@transaction.atomic
def _add_batch(latest: datetime) -> tuple[int, bool]:
    """Add one batch of the positions that closed before `latest`; return (positions, whether more are left)."""
    mark = _locked()
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL work_mem = '{WORK_MEM_MB}MB'")
        cursor.execute(COMPLETE, {"latest": latest})
        [until] = cursor.fetchone()
        span: dict[str, Any] = {"since": mark.until, "until": until, "batch": BATCH}
        cursor.execute(EDGE, span)
        edge = cursor.fetchone()
        if edge is not None:
            [span["until"]] = edge
        else:
            cursor.execute(ANY, span)
            if cursor.fetchone() is None:
                return 0, False
        cursor.execute(ADD, span)
        [positions] = cursor.fetchone()
    mark.until = span["until"]
    mark.save(update_fields=["until"])
    return positions, edge is not None


def _locked() -> PnlWatermark:
    """Return the watermark's row, locked until the transaction ends; the first pass creates it."""
    PnlWatermark.objects.bulk_create([PnlWatermark(pk=1, until=BEGINNING)], ignore_conflicts=True)
    return PnlWatermark.objects.select_for_update().get(pk=1)


@transaction.atomic
def start_over() -> None:
    """Delete all parts: the next passes add every position again. For after closed positions were changed by hand."""
    mark = _locked()
    PnlPart.objects.all().delete()
    PnlWatermark.objects.filter(pk=mark.pk).update(until=BEGINNING)


DIFFERENCES = """
WITH mark AS (SELECT coalesce((SELECT until FROM pnl_watermarks), %(beginning)s) AS until),
parts AS (
    SELECT deployment_id, dimension, sum(closed) AS closed, sum(won + lost) AS net,
           sum(venue_fees + platform_fees) AS fees, sum(profit_share) AS profit_share
    FROM pnl_parts WHERE deployment_id IS NOT NULL AND day IS NULL GROUP BY deployment_id, dimension
),
expected AS (
    SELECT p.deployment_id, count(*) AS closed, sum(p.realised_pnl - p.profit_share) AS net, sum(p.fees) AS fees,
           sum(p.profit_share) AS profit_share
    FROM positions p JOIN mark m ON p.closed_at < m.until WHERE p.state = 'closed' GROUP BY p.deployment_id
)
SELECT DISTINCT coalesce(e.deployment_id, x.deployment_id)
FROM (SELECT * FROM expected CROSS JOIN unnest(%(dimensions)s::text[]) AS dimension) AS e
FULL JOIN parts x ON x.deployment_id = e.deployment_id AND x.dimension = e.dimension
WHERE (e.closed, e.net, e.fees, e.profit_share) IS DISTINCT FROM (x.closed, x.net, x.fees, x.profit_share)
ORDER BY 1
"""


def differences() -> list[int]:
    """Return the deployments whose stored parts do not add up to their closed positions; reads every position."""
    with connection.cursor() as cursor:
        cursor.execute(DIFFERENCES, {"beginning": BEGINNING, "dimensions": list(STORED)})
        return [pk for (pk,) in cursor.fetchall()]
