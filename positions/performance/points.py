"""Store each deployment's equity every five minutes, and thin the points with age.

A point is written only where equity or net deposits have changed since the previous one, so a deployment without open
positions costs nothing. Equity and deposits of a point are read in one statement: a deposit is in both or in neither,
and never counts as PnL.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection

from maxxit.core import clock
from maxxit.core.money import IS_CASH, IS_TOKEN
from positions.performance.equity import HELD, PAID_IN

WORTH = f"""
SELECT worth.deployment_id, worth.equity, coalesce(paid.deposits, 0) AS deposits, worth.unpriced
FROM (
    SELECT held.deployment_id,
           sum(CASE WHEN held.asset {IS_CASH} THEN held.amount ELSE held.amount * q.price END)::numeric(38, 18)
               AS equity,
           bool_or(held.asset {IS_TOKEN} AND held.amount <> 0 AND q.price IS NULL) AS unpriced
    FROM (
        SELECT deployment_id, asset, sum(amount) AS amount FROM ({HELD}) AS lines GROUP BY deployment_id, asset
    ) AS held LEFT JOIN quotes q ON q.symbol = held.asset
    GROUP BY held.deployment_id
) AS worth
LEFT JOIN (
    SELECT deployment_id, sum(amount) AS deposits FROM ({PAID_IN}) AS lines GROUP BY deployment_id
) AS paid USING (deployment_id)
"""  # noqa: S608 (constants only)
"""(deployment, equity, net deposits, whether a token has no quote) now."""
TAKE = f"""
INSERT INTO equity_points (deployment_id, at, equity, deposits)
SELECT worth.deployment_id, %(now)s, worth.equity, worth.deposits
FROM ({WORTH}) AS worth
LEFT JOIN LATERAL (
    SELECT p.equity, p.deposits FROM equity_points p
    WHERE p.deployment_id = worth.deployment_id AND p.at <= %(now)s ORDER BY p.at DESC LIMIT 1
) AS newest ON true
WHERE NOT worth.unpriced AND (newest.equity, newest.deposits) IS DISTINCT FROM (worth.equity, worth.deposits)
ON CONFLICT (deployment_id, at) DO UPDATE SET equity = excluded.equity, deposits = excluded.deposits
"""  # noqa: S608 (constants only)
STEPS = ((timedelta(days=7), "1 hour"), (timedelta(days=90), "1 day"))
"""(older than, step): one point per step remains. Five-minute points are kept for a week, hourly ones for 90 days."""
THIN = """
DELETE FROM equity_points doomed USING (
    SELECT id, deposits,
           lag(deposits) OVER w AS deposits_before,
           lead(date_bin(%(step)s, at, 'epoch')) OVER w = date_bin(%(step)s, at, 'epoch') AS bin_goes_on
    FROM equity_points
    WHERE at < %(before)s AND at >= %(since)s
    WINDOW w AS (PARTITION BY deployment_id ORDER BY at)
) AS point
WHERE doomed.id = point.id AND point.bin_goes_on AND point.deposits = point.deposits_before
"""
"""Keeps the last point of each step, the first of each span, and every point at which net deposits changed: between
those the deposit-neutral index is the same without the others."""


SIZE = """
SELECT count(*), count(DISTINCT deployment_id), min(at) FROM equity_points
WHERE at > coalesce(%(since)s::timestamptz, '-infinity') AND at <= %(until)s::timestamptz
  AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
"""
READ = f"""
WITH points AS (
    SELECT before.* FROM agent_deployments d CROSS JOIN LATERAL (
        SELECT p.deployment_id, p.at, p.equity, p.deposits FROM equity_points p
        WHERE p.deployment_id = d.id AND p.at <= %(since)s::timestamptz ORDER BY p.at DESC LIMIT 1
    ) AS before
    WHERE %(since)s::timestamptz IS NOT NULL
      AND (%(deployments)s::bigint[] IS NULL OR d.id = ANY(%(deployments)s::bigint[]))
    UNION ALL
    (SELECT DISTINCT ON (deployment_id, date_bin(%(step)s::interval, at, 'epoch')) deployment_id, at, equity, deposits
    FROM equity_points
    WHERE at > coalesce(%(since)s::timestamptz, '-infinity') AND at <= %(until)s::timestamptz
      AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
    ORDER BY deployment_id, date_bin(%(step)s::interval, at, 'epoch'), at DESC)
    UNION ALL
    SELECT deployment_id, %(now)s::timestamptz, equity, deposits FROM ({WORTH}) AS live
    WHERE %(now)s::timestamptz <= %(until)s::timestamptz AND NOT unpriced
)
SELECT extract(epoch FROM greatest(at, coalesce(%(since)s::timestamptz, at)))::float8, deployment_id,
       round((equity - coalesce(deposits - lag(deposits) OVER own, 0)) * 1000000)::bigint,
       round(coalesce(deposits - lag(deposits) OVER own, 0) * 1000000)::bigint
FROM points WINDOW own AS (PARTITION BY deployment_id ORDER BY at)
ORDER BY 1, 2
"""  # noqa: S608 (constants only)
"""(epoch seconds, deployment, equity before the flow, flow since its previous point), the last point before the span
first. A deployment's first row has no flow."""
MOST_POINTS = 300_000
"""A curve of more points is read in wider steps."""
READ_STEPS = tuple(timedelta(seconds=width) for width in (1, 3_600, 86_400, 7 * 86_400))


class PointRow(NamedTuple):
    """A point of one deployment, as `returns.curve_of` joins them. Amounts in USDC base units."""

    at: float
    """Seconds since 1970, UTC."""
    deployment: int
    equity: int
    """Before the flow."""
    flow: int
    """Deposited less withdrawn since the deployment's previous point; 0 for its first."""


def read_points(
    deployments: Sequence[int] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    most: int | None = None,
) -> list[PointRow]:
    """Return the points of these deployments (None: all) in [since, until], and their equity now where that is later.

    In order of time; the first of a deployment is its equity at `since`, or its first point. Where the span has more
    than `most` points (MOST_POINTS) the last one of each hour, day or week is read.
    """
    now = clock.now()
    span: dict[str, Any] = {"deployments": None if deployments is None else list(deployments), "now": now}
    span |= {"since": since, "until": until or now}
    with connection.cursor() as cursor:
        cursor.execute(SIZE, span)
        points, held_by, first = cursor.fetchone()
        cursor.execute(
            READ, span | {"step": _step(points, held_by, first, span["until"], most or MOST_POINTS)}
        )
        return [PointRow(*row) for row in cursor.fetchall()]


def _step(points: int, deployments: int, first: datetime | None, until: datetime, most: int) -> timedelta:
    """Return the narrowest step with which at most `most` points are read, or else the widest."""
    if points <= most or first is None:
        return READ_STEPS[0]
    fits = (step for step in READ_STEPS[1:] if deployments * ((until - first) / step) <= most)
    return next(fits, READ_STEPS[-1])


def take_points(deployments: Sequence[int] | None = None) -> int:
    """Store the equity of these deployments (None: all) now, where it has changed; return how many points were stored.

    A deployment that holds a token without any quote gets no point: its equity is unknown.
    """
    with connection.cursor() as cursor:
        ids = None if deployments is None else list(deployments)
        cursor.execute(TAKE, {"deployments": ids, "now": clock.now()})
        return int(cursor.rowcount)


def thin_points() -> int:
    """Delete points that are denser than their age allows (`STEPS`); return how many."""
    now, deleted = clock.now(), 0
    ends = [*(age for age, _ in STEPS[1:]), None]
    with connection.cursor() as cursor:
        for (age, step), until in zip(STEPS, ends, strict=True):
            since = now - until - timedelta(days=2) if until else datetime.min.replace(tzinfo=now.tzinfo)
            cursor.execute(THIN, {"before": now - age, "since": since, "step": step})
            deleted += int(cursor.rowcount)
    return deleted
