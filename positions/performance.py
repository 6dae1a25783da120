"""What deployments are worth and how they have done, at the present quotes."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db import connection

TOTAL_EQUITY = """
SELECT coalesce(sum(CASE b.asset WHEN 'USDC' THEN b.amount ELSE b.amount * q.price END), 0)
FROM ledger_balances b LEFT JOIN quotes q ON q.symbol = b.asset
WHERE b.amount <> 0
"""
UNREALISED = """
SELECT coalesce(sum((CASE p.side WHEN 'long' THEN 1 ELSE -1 END) * (p.quantity - p.closed_quantity)
                    * (q.price - p.entry_price)), 0)
FROM positions p JOIN quotes q ON q.symbol = p.symbol
WHERE p.state <> 'closed'
"""


def _number(sql: str) -> Decimal:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        value: Decimal = cursor.fetchone()[0]
        return value


def total_equity() -> Decimal:
    """USD: what all deployments hold, less what they owe the platform, at the newest quotes."""
    return _number(TOTAL_EQUITY)


def total_unrealised() -> Decimal:
    """USD: what all open positions would earn at the newest quotes, before fees."""
    return _number(UNREALISED)


SNAPSHOTS = """
INSERT INTO pnl_snapshots (deployment_id, day, equity, deposits, realised_pnl, unrealised_pnl)
SELECT d.id, (%(day)s AT TIME ZONE 'UTC')::date,
       coalesce((SELECT sum(CASE b.asset WHEN 'USDC' THEN b.amount ELSE b.amount * q.price END)
                 FROM ledger_balances b LEFT JOIN quotes q ON q.symbol = b.asset
                 WHERE b.account IN ('deployment:' || d.id, 'deployment:' || d.id || ':payable')), 0),
       coalesce((SELECT sum(CASE e.asset WHEN 'USDC' THEN e.amount ELSE e.amount * q.price END)
                 FROM ledger_entries e LEFT JOIN quotes q ON q.symbol = e.asset
                 WHERE e.account = 'deployment:' || d.id AND e.kind IN ('deposit', 'external')), 0),
       coalesce((SELECT sum(p.realised_pnl) FROM positions p
                 WHERE p.deployment_id = d.id AND p.closed_at >= %(day)s AND p.closed_at < %(next)s), 0),
       coalesce((SELECT sum((CASE p.side WHEN 'long' THEN 1 ELSE -1 END) * (p.quantity - p.closed_quantity)
                            * (q.price - p.entry_price))
                 FROM positions p JOIN quotes q ON q.symbol = p.symbol
                 WHERE p.deployment_id = d.id AND p.state <> 'closed'), 0)
FROM agent_deployments d
WHERE d.state <> 'draft'
ON CONFLICT (deployment_id, day) DO NOTHING
"""


def take_snapshots(day: date) -> int:
    """Each deployment's equity, realised and unrealised PnL for the UTC `day` that has ended; once per day."""
    midnight = datetime.combine(day, time(0), tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute(SNAPSHOTS, {"day": midnight, "next": midnight + timedelta(days=1)})
        return int(cursor.rowcount)
