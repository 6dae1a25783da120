"""What deployments are worth and how they have done, at the present quotes."""

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
