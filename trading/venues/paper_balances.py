"""What accounts hold on the paper exchange: one statement adds to many balances."""

from collections.abc import Sequence
from decimal import Decimal

from django.db import connection

MOVE = """
INSERT INTO paper_balances (account, asset, amount)
SELECT account, asset, sum(amount) FROM unnest(%s::text[], %s::text[], %s::numeric[]) AS move (account, asset, amount)
GROUP BY account, asset ORDER BY account, asset
ON CONFLICT (account, asset) DO UPDATE SET amount = paper_balances.amount + excluded.amount
"""
"""Balances are locked by account and asset in ascending order, so that two batches cannot wait for each other."""
Move = tuple[str, str, Decimal]
"""(account, asset, amount), whole units."""


def move(moves: Sequence[Move]) -> None:
    """Add the amounts to the balances."""
    if moves:
        with connection.cursor() as cursor:
            cursor.execute(MOVE, [list(column) for column in zip(*moves, strict=True)])
