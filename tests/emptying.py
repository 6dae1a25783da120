"""Empties the tables after a transactional test, in place of Django's flush.

What `post_migrate` makes (content types, permissions, groups) stays where the test did not change it. All other
tables are empty afterwards, as after a flush.
"""

from typing import Any

from django.core.management.color import no_style
from django.core.management.sql import emit_post_migrate_signal, sql_flush
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

MADE = ("django_content_type", "auth_permission", "auth_group", "auth_group_permissions")
"""Tables with rows of `post_migrate`."""
LARGE_BYTES = 256 * 1024
"""A larger table is truncated: deleted rows would stay in its file."""
_made: list[Any] = []
"""What the tables of MADE hold when nobody has changed them."""


def empty_tables(test: object = None) -> None:
    """Empty our tables; waits for transactions that write to them, as TRUNCATE does."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        if not _made or _digest(cursor) != _made[0]:
            for statement in sql_flush(no_style(), connection):
                cursor.execute(statement)
            anew = True
        else:
            _delete(cursor)
            anew = False
    if anew:
        emit_post_migrate_signal(0, False, connection.alias)
        with connection.cursor() as cursor:
            _made[:] = [_digest(cursor)]


def _delete(cursor: CursorWrapper) -> None:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [connection.ops.quote_name(name) for name in names if name not in MADE]
    cursor.execute(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")
    filled = " UNION ALL ".join(
        f"(SELECT '{table}', pg_relation_size('{table}') FROM {table} LIMIT 1)" for table in tables
    )
    cursor.execute(filled)
    sizes: dict[str, int] = dict(cursor.fetchall())
    if large := [table for table, size in sizes.items() if size > LARGE_BYTES]:
        cursor.execute(f"TRUNCATE {', '.join(large)} CASCADE")
    for table in sizes.keys() - set(large):
        cursor.execute(f"DELETE FROM {table}")


def _digest(cursor: CursorWrapper) -> Any:
    sums = ", ".join(
        f"(SELECT (count(*), sum(hashtextextended(t::text, 0)))::text FROM {table} t)" for table in MADE
    )
    cursor.execute(f"SELECT {sums}")
    return cursor.fetchone()
