"""Save the PnL of a UTC day per deployment and for all together in `daily_pnl_summary` (checklist C58)."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import connection, transaction

from maxxit.core import clock
from maxxit.core.money import plain, usdc
from maxxit.events.models import Event
from maxxit.events.record import record, subject
from positions.models import DailySummary
from positions.performance import points
from positions.performance.equity import GRACE, TRADED_DAYS

SUMMARY_EVENT = "PNL_DAILY_SUMMARY"
SAVE = """
WITH ended AS (
    SELECT deployment_id, symbol, realised_pnl - profit_share AS net FROM positions
    WHERE state = 'closed' AND closed_at >= %(since)s AND closed_at < %(until)s
), by_symbol AS (
    SELECT deployment_id, symbol, sum(net) AS net, count(*) AS closed, count(*) FILTER (WHERE net > 0) AS winners
    FROM ended GROUP BY GROUPING SETS ((deployment_id, symbol), (symbol))
), results AS (
    SELECT deployment_id, sum(net) AS net, sum(closed) AS closed, sum(winners) AS winners,
           (array_agg(symbol ORDER BY net DESC, symbol))[1] AS best,
           (array_agg(symbol ORDER BY net, symbol))[1] AS worst
    FROM by_symbol GROUP BY deployment_id
), held AS (
    SELECT p.deployment_id, sum((CASE p.side WHEN 'long' THEN 1 ELSE -1 END) * (p.quantity - p.closed_quantity)
                                * (q.price - p.entry_price)) AS unrealised
    FROM positions p JOIN quotes q ON q.symbol = p.symbol
    WHERE p.state <> 'closed'
    GROUP BY GROUPING SETS ((p.deployment_id), ())
), worth AS (
    SELECT d.id AS deployment_id, sum(newest.equity) AS equity, sum(newest.deposits) AS deposits,
           sum(newest.equity - newest.deposits - coalesce(before.equity - before.deposits, 0)) AS pnl
    FROM agent_deployments d
    CROSS JOIN LATERAL (
        SELECT p.equity, p.deposits FROM equity_points p
        WHERE p.deployment_id = d.id AND p.at <= %(until)s + %(grace)s ORDER BY p.at DESC LIMIT 1
    ) AS newest
    LEFT JOIN LATERAL (
        SELECT p.equity, p.deposits FROM equity_points p
        WHERE p.deployment_id = d.id AND p.at <= %(since)s + %(grace)s ORDER BY p.at DESC LIMIT 1
    ) AS before ON true
    GROUP BY GROUPING SETS ((d.id), ())
    HAVING sum(newest.equity) IS NOT NULL
)
INSERT INTO daily_pnl_summary (
    report_date, deployment_id, realized_pnl_usd, unrealized_pnl_usd, total_pnl_usd, win_rate, num_trades, best_symbol,
    worst_symbol, equity_usd, deposits_usd, day_pnl_usd, saved_at)
SELECT %(day)s, worth.deployment_id, coalesce(results.net, 0), coalesce(held.unrealised, 0),
       coalesce(results.net, 0) + coalesce(held.unrealised, 0), results.winners / nullif(results.closed, 0),
       coalesce(results.closed, 0), coalesce(results.best, ''), coalesce(results.worst, ''),
       worth.equity, worth.deposits, worth.pnl, %(now)s
FROM worth
LEFT JOIN results ON coalesce(results.deployment_id, 0) = coalesce(worth.deployment_id, 0)
LEFT JOIN held ON coalesce(held.deployment_id, 0) = coalesce(worth.deployment_id, 0)
ON CONFLICT (report_date, deployment_id) DO UPDATE SET
    realized_pnl_usd = excluded.realized_pnl_usd, unrealized_pnl_usd = excluded.unrealized_pnl_usd,
    total_pnl_usd = excluded.total_pnl_usd, win_rate = excluded.win_rate, num_trades = excluded.num_trades,
    best_symbol = excluded.best_symbol, worst_symbol = excluded.worst_symbol, equity_usd = excluded.equity_usd,
    deposits_usd = excluded.deposits_usd, day_pnl_usd = excluded.day_pnl_usd, saved_at = excluded.saved_at
"""
UNENDED = f"""
{TRADED_DAYS}
SELECT day FROM wanted WHERE NOT EXISTS (
    SELECT FROM daily_pnl_summary s JOIN events e ON e.name = %(event)s AND e.subject = %(subject)s || s.id
    WHERE s.report_date = wanted.day AND s.deployment_id IS NULL
)
ORDER BY day
"""  # noqa: S608 (constants only)


def save_summary(day: date) -> list[DailySummary]:
    """Save the summaries of a UTC day, and return them, that of all deployments first.

    Saving again replaces them. Equity comes from the newest equity points of the day (today: from now), unrealised PnL
    from the newest quotes.
    """
    since = datetime.combine(day, time(0), tzinfo=UTC)
    span: dict[str, Any] = {
        "day": day,
        "since": since,
        "until": since + timedelta(days=1),
        "grace": GRACE,
        "now": clock.now(),
    }
    with transaction.atomic():
        if clock.now() < since + timedelta(days=1) + GRACE:
            points.take_points()
        with connection.cursor() as cursor:
            cursor.execute(SAVE, span)
    rows = DailySummary.objects.filter(report_date=day).select_related("deployment__agent")
    return sorted(rows, key=lambda row: row.deployment_id or 0)


def end_day(day: date) -> DailySummary | None:
    """Save the summaries of an ended UTC day and record one event about it; return the summary of all deployments.

    None where no deployment has any equity. The event is recorded once per day.
    """
    with transaction.atomic():
        rows = save_summary(day)
        if not rows:
            return None
        total = rows[0]
        if not Event.objects.filter(name=SUMMARY_EVENT, subject=subject(total)).exists():
            record(SUMMARY_EVENT, total, **as_json(total))
    return total


def days_not_ended(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`, both included, that `end_day` has not ended, oldest first.

    Days before the first equity point are left out: nothing was traded then.
    """
    prefix = subject(DailySummary(pk=0)).removesuffix("0")
    with connection.cursor() as cursor:
        cursor.execute(UNENDED, {"first": first, "last": last, "event": SUMMARY_EVENT, "subject": prefix})
        return [day for (day,) in cursor.fetchall()]


AMOUNTS = (
    "realized_pnl_usd", "unrealized_pnl_usd", "total_pnl_usd", "equity_usd", "deposits_usd", "day_pnl_usd",
)  # fmt: skip


def as_json(row: DailySummary) -> dict[str, Any]:
    """Return a summary with amounts as decimal strings in USD, rounded to USDC base units."""
    return {
        "report_date": row.report_date.isoformat(),
        "deployment": row.deployment_id,
        **{name: plain(usdc(getattr(row, name))) for name in AMOUNTS},
        "win_rate": None if row.win_rate is None else plain(row.win_rate),
        "num_trades": row.num_trades,
        "best_symbol": row.best_symbol,
        "worst_symbol": row.worst_symbol,
    }
