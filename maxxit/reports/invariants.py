"""What must be true of the stored money at every moment, read from the rows alone: after a restore, and in tests."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from maxxit.reports import checks
from maxxit.reports.checks import Check

RULES = {
    "one order per intent": """
        SELECT deployment_id, signal_id, count(*) FROM orders WHERE purpose = 'open'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "closed at most what was held": "SELECT id FROM positions WHERE closed_quantity > quantity",
    "the ledger sums to zero": "SELECT asset, sum(amount) FROM ledger_entries GROUP BY 1 HAVING sum(amount) <> 0",
    "balances are the sums of the ledger": """
        SELECT account, asset FROM ledger_balances b
        FULL JOIN (
            SELECT account, asset, sum(amount) AS total FROM ledger_entries
            WHERE deployment_id IS NOT NULL GROUP BY 1, 2
        ) l USING (account, asset)
        WHERE coalesce(b.amount, 0) <> coalesce(l.total, 0)""",
    "no fee without a trade": """
        SELECT e.id FROM ledger_entries e JOIN orders o ON o.id = e.order_id
        WHERE e.kind = 'platform_fee' AND (o.purpose <> 'open' OR o.filled_quantity = 0)""",
    "constraints and triggers are in force": """
        SELECT conname FROM pg_constraint WHERE NOT convalidated
        UNION ALL
        SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'D'
        UNION ALL
        SELECT wanted FROM unnest(%(append_only)s::text[]) AS wanted WHERE NOT EXISTS (
            SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = to_regclass(wanted))""",
}
"""Rule -> the rows that break it."""
APPEND_ONLY = ("events", "fills", "ledger_entries")
SHOWN = 5


def broken(rule: str) -> list[tuple[Any, ...]]:
    """Return the rows that break a rule."""
    with connection.cursor() as cursor:
        cursor.execute(RULES[rule], {"append_only": list(APPEND_ONLY)})
        return list(cursor.fetchall())


def check_all() -> Iterator[Check]:
    """Check every rule, then that positions, ledger and stored sums agree."""
    for rule in RULES:
        rows = broken(rule)
        named = f"{len(rows)} rows break it: {', '.join(str(row[0]) for row in rows[:SHOWN])}"
        fix = "stop entries (`manage.py kill no_entries`) and compare with the venues (`manage.py reconcile`)"
        yield Check(rule, not rows, named if rows else "holds", fix if rows else "")
    yield checks.books()
    yield checks.parts()
