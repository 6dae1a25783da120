"""Compute equity, cash flows and unrealised PnL at the newest quotes, and store the daily snapshots."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import Case, DecimalField, F, OuterRef, QuerySet, Subquery, Value, When

from maxxit.core.money import COLUMN, IS_CASH, IS_TOKEN
from maxxit.core.terms import Side
from maxxit.market.models import Quote
from positions.models import Position

HELD = f"""
SELECT d.id AS deployment_id, b.asset, b.amount
FROM agent_deployments d
JOIN ledger_balances b ON b.account IN ('deployment:' || d.id, 'deployment:' || d.id || ':payable')
WHERE %(deployments)s::bigint[] IS NULL OR d.id = ANY(%(deployments)s::bigint[])
UNION ALL
SELECT e.deployment_id, e.asset, -e.amount
FROM ledger_entries e
WHERE e.kind = 'external' AND e.asset {IS_TOKEN} AND e.deployment_id IS NOT NULL
  AND (%(deployments)s::bigint[] IS NULL OR e.deployment_id = ANY(%(deployments)s::bigint[]))
"""  # noqa: S608 (constants only)
"""(deployment, asset, amount): what deployments hold and owe, without tokens that their owners moved in or out."""
PAID_IN = f"""
SELECT e.deployment_id, e.at, e.id, e.amount
FROM ledger_entries e
WHERE e.kind IN ('deposit', 'external') AND e.asset {IS_CASH} AND e.deployment_id IS NOT NULL
  AND (%(deployments)s::bigint[] IS NULL OR e.deployment_id = ANY(%(deployments)s::bigint[]))
"""  # noqa: S608 (constants only)
"""(deployment, time, id, cash in USD): deposits, and withdrawals as negative amounts."""
EQUITY = f"""
SELECT coalesce(sum(CASE WHEN held.asset {IS_CASH} THEN held.amount ELSE held.amount * q.price END), 0)
FROM ({HELD}) AS held LEFT JOIN quotes q ON q.symbol = held.asset
"""  # noqa: S608 (constants only)
UNREALISED = """
SELECT coalesce(sum((CASE p.side WHEN 'long' THEN 1 ELSE -1 END) * (p.quantity - p.closed_quantity)
                    * (q.price - p.entry_price)), 0)
FROM positions p JOIN quotes q ON q.symbol = p.symbol
WHERE p.state <> 'closed'
"""


def _number(sql: str, params: Mapping[str, list[int] | None] | None = None) -> Decimal:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        value: Decimal = cursor.fetchone()[0]
        return value


def _ids(deployments: Sequence[int] | None) -> dict[str, list[int] | None]:
    return {"deployments": None if deployments is None else list(deployments)}


def total_equity(deployments: Sequence[int] | None = None) -> Decimal:
    """Return the equity of these deployments (None: all) in USD at the newest quotes.

    What they hold less what they owe the platform. Tokens that the owners of Safes moved in or out do not count: no
    agent trades them. A token without a quote counts as zero.
    """
    return _number(EQUITY, _ids(deployments))


def total_unrealised() -> Decimal:
    """Return the unrealised PnL of all open positions in USD, before fees."""
    return _number(UNREALISED)


def with_unrealised(rows: QuerySet[Position]) -> QuerySet[Position]:
    """Annotate `rows` with `unrealised`: PnL in USDC at the newest quote, before fees; None if closed or unquoted."""
    quote = Quote.objects.filter(symbol=OuterRef("symbol")).values("price")
    sign = Case(When(side=Side.LONG, then=Value(1)), default=Value(-1))
    left = (F("quantity") - F("closed_quantity")) * (Subquery(quote) - F("entry_price")) * sign
    unrealised = Case(When(state="closed", then=None), default=left, output_field=DecimalField(**COLUMN))
    return rows.annotate(unrealised=unrealised)


GRACE = timedelta(minutes=1)
"""The equity point of midnight is stored up to this much later."""
SNAPSHOTS = f"""
INSERT INTO pnl_snapshots (deployment_id, day, equity, deposits, realised_pnl, unrealised_pnl)
SELECT d.id, (%(day)s AT TIME ZONE 'UTC')::date,
       coalesce((SELECT sum(CASE WHEN b.asset {IS_CASH} THEN b.amount ELSE b.amount * q.price END)
                 FROM ledger_balances b LEFT JOIN quotes q ON q.symbol = b.asset
                 WHERE b.account IN ('deployment:' || d.id, 'deployment:' || d.id || ':payable')), 0),
       coalesce((SELECT sum(CASE WHEN e.asset {IS_CASH} THEN e.amount ELSE e.amount * q.price END)
                 FROM ledger_entries e LEFT JOIN quotes q ON q.symbol = e.asset
                 WHERE e.deployment_id = d.id AND e.kind IN ('deposit', 'external')), 0),
       coalesce((SELECT sum(p.realised_pnl) FROM positions p
                 WHERE p.deployment_id = d.id AND p.state = 'closed'
                   AND p.closed_at >= %(day)s AND p.closed_at < %(next)s), 0),
       coalesce((SELECT sum((CASE p.side WHEN 'long' THEN 1 ELSE -1 END) * (p.quantity - p.closed_quantity)
                            * (q.price - p.entry_price))
                 FROM positions p JOIN quotes q ON q.symbol = p.symbol
                 WHERE p.deployment_id = d.id AND p.state <> 'closed'), 0)
FROM agent_deployments d
WHERE d.state <> 'draft'
ON CONFLICT (deployment_id, day) DO NOTHING
"""  # noqa: S608 (constants only)
BEST = """
INSERT INTO best_pnls (account, pnl)
SELECT d.account, sum(s.equity - s.deposits)
FROM pnl_snapshots s JOIN agent_deployments d ON d.id = s.deployment_id
WHERE s.day = %(day)s
GROUP BY d.account
ON CONFLICT (account) DO UPDATE SET pnl = excluded.pnl WHERE best_pnls.pnl < excluded.pnl
"""


MADE_UP = """
INSERT INTO pnl_snapshots (deployment_id, day, equity, deposits, realised_pnl, unrealised_pnl)
SELECT d.id, (%(day)s AT TIME ZONE 'UTC')::date, point.equity, point.deposits, closed.on_day,
       point.equity - point.deposits - closed.by_then
FROM agent_deployments d
CROSS JOIN LATERAL (
    SELECT p.equity, p.deposits FROM equity_points p
    WHERE p.deployment_id = d.id AND p.at <= %(until)s ORDER BY p.at DESC LIMIT 1
) AS point
CROSS JOIN LATERAL (
    SELECT coalesce(sum(p.realised_pnl), 0) AS by_then,
           coalesce(sum(p.realised_pnl) FILTER (WHERE p.closed_at >= %(day)s), 0) AS on_day
    FROM positions p WHERE p.deployment_id = d.id AND p.state = 'closed' AND p.closed_at < %(next)s
) AS closed
WHERE d.state <> 'draft'
ON CONFLICT (deployment_id, day) DO NOTHING
"""
TRADED_DAYS = """
WITH begun AS (
    SELECT min(first.at) AS at FROM agent_deployments d
    CROSS JOIN LATERAL (
        SELECT p.at FROM equity_points p WHERE p.deployment_id = d.id ORDER BY p.at LIMIT 1
    ) AS first
), wanted AS (
    SELECT listed.day::date AS day FROM begun, generate_series(%(first)s::date, %(last)s::date, '1 day') AS listed (day)
    WHERE listed.day::date >= (begun.at AT TIME ZONE 'UTC')::date
)
"""
"""`wanted`: the days from `first` to `last` (UTC), both included, without those before the first equity point."""
UNTAKEN = f"""
{TRADED_DAYS}
SELECT day FROM wanted WHERE NOT EXISTS (SELECT FROM pnl_snapshots s WHERE s.day = wanted.day) ORDER BY day
"""  # noqa: S608 (constants only)


def days_without_snapshots(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`, both included, of which no deployment has a snapshot, oldest first.

    Days before the first equity point are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(UNTAKEN, {"first": first, "last": last})
        return [day for (day,) in cursor.fetchall()]


def make_up_snapshots(day: date) -> int:
    """Store the snapshots of a UTC `day` that ended a while ago, by its last equity points; return how many.

    Equity of now would count what happened since into that day, and hide a loss of today from the guard. A deployment
    without an equity point by then gets none. Unrealised PnL is what equity less deposits holds beyond the positions
    closed by then.
    """
    midnight = datetime.combine(day, time(0), tzinfo=UTC)
    end = midnight + timedelta(days=1)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(MADE_UP, {"day": midnight, "next": end, "until": end + GRACE})
        made = int(cursor.rowcount)
        cursor.execute(BEST, {"day": day})
        return made


def take_snapshots(day: date) -> int:
    """Store each deployment's equity and PnL for the ended UTC `day`, once; return the number of new snapshots.

    Also updates each account's best PnL where the day ended higher.
    """
    midnight = datetime.combine(day, time(0), tzinfo=UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(SNAPSHOTS, {"day": midnight, "next": midnight + timedelta(days=1)})
        taken = int(cursor.rowcount)
        cursor.execute(BEST, {"day": day})
        return taken
