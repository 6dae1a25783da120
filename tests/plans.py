"""Plans of Postgres: what the planner chose, and what a plan that was made for few rows reads of many."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from psycopg.sql import Literal

READ = (
    "Actual Rows",
    "Rows Removed by Filter",
    "Rows Removed by Join Filter",
    "Rows Removed by Index Recheck",
)


def plan(sql: str, params: Any = None, *, options: str = "") -> dict[str, Any]:
    """What the planner chose."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}FORMAT JSON) {sql}", params)
        found = cursor.fetchone()[0]
    whole = json.loads(found) if isinstance(found, str) else found
    return dict(whole[0]["Plan"])


def nodes(node: dict[str, Any], limit: float | None = None) -> Iterator[tuple[dict[str, Any], float | None]]:
    """Every node, with the cost of the LIMIT above it."""
    yield node, limit
    within = node["Total Cost"] if node["Node Type"] == "Limit" else limit
    for child in node.get("Plans", ()):
        yield from nodes(child, within)


@contextmanager
def kept(sql: str, params: dict[str, Any]) -> Iterator[str]:
    """Prepare a statement as on the workers' connections, planned for the present tables; yield its EXECUTE."""
    used = [name for name in params if f"%({name})s" in sql]
    for number, name in enumerate(used, 1):
        sql = sql.replace(f"%({name})s", f"${number}")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE kept AS {sql}")
        values = ", ".join(Literal(params[name]).as_string(cursor.connection) for name in used)
    execution = f"EXECUTE kept ({values})"
    plan(execution)  # made now, and kept
    try:
        yield execution
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE kept")


def touched(sql: str, params: Any = None, *, table: str = "") -> int:
    """Run a statement; return how many rows its plan read (of one table), those that a filter removed included."""
    root = plan(sql, params, options="ANALYZE, ")
    read: float = sum(
        node["Actual Loops"] * sum(node.get(name, 0) for name in READ)
        for node, _ in nodes(root)
        if not table or (node.get("Relation Name") == table and node["Node Type"] != "ModifyTable")
    )
    return round(read)
