"""The database of a backup: a consistent dump with facts about its rows, and its way into an empty database."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psycopg
from django.db import connection
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.embedded import binaries
from maxxit.embedded.processes import bound_to_parent
from maxxit.ops import roles

COUNTED = tuple(sorted({*roles.APPEND_ONLY, *roles.NEVER_DELETED}))
"""Tables of which a backup counts the rows and adds them up: what money depends on."""
SEALS = "event_seals"
HEADS = "SELECT DISTINCT ON (log) log, head FROM event_seals ORDER BY log, id DESC"
READ = 1024 * 1024
NOT_LIBPQ = {"server_side_binding", "prepare_threshold", "options", "pool", "isolation_level", "assume_role"}
"""Options of Django's connection that are not parameters of libpq."""
STEADY = "-c timezone=UTC -c datestyle=ISO -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"


def conninfo() -> str:
    """Return how to connect to the database of Django's default connection, with its password."""
    found = connection.settings_dict
    options = {name: value for name, value in found["OPTIONS"].items() if name not in NOT_LIBPQ}
    places = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return make_conninfo("", **options, **{name: found[key] for name, key in places.items() if found[key]})


def program(name: str) -> Path:
    """Return pg_dump or pg_restore: that of the embedded server, else the one on the PATH."""
    try:
        path = binaries.clients() / name
    except Misconfigured:
        path = Path(shutil.which(name) or "")
    if not path.is_file():
        raise Misconfigured(
            f"{name} is not installed: install the client programs of Postgres (Debian: postgresql-client)"
        )
    return path


def _environ() -> dict[str, str]:
    """Return the environment of a program: no secret of ours but the database's password."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    password = str(connection.settings_dict["PASSWORD"] or "")
    return kept | ({"PGPASSWORD": password} if password else {})


def _target() -> str:
    """Return the connection for a command line: without the password, which every process list would show."""
    parts = conninfo_to_dict(conninfo())
    parts.pop("password", None)
    return make_conninfo("", **parts)


@contextmanager
def snapshot() -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    """Yield facts about the database and its dump in pieces, both of one moment.

    The pieces raise Rejected (dump_failed) where pg_dump fails, after the last one.
    """
    with _session() as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (name,) = session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        yield _facts(session, COUNTED), _dump(name)


def facts(tables: Sequence[str] = COUNTED) -> dict[str, Any]:
    """Return the facts about the database as it is now, with the rows of these tables."""
    with _session() as session:
        return _facts(session, tables)


def _session() -> psycopg.Connection[Any]:
    """Return a new connection without time limits. Raises Retryable where the database does not answer."""
    try:
        return psycopg.connect(conninfo(), options=STEADY)
    except psycopg.OperationalError as error:
        raise Retryable(f"the database does not answer (`make up` starts it): {error}") from None


def _facts(session: psycopg.Connection[Any], tables: Sequence[str]) -> dict[str, Any]:
    """Return server version, migrations, newest event and seals, and (count, checksum) of each table.

    A table that the migrations of this database have not made yet is left out: it may be of an older release.
    """
    (server,) = session.execute("SELECT current_setting('server_version')").fetchone() or ("",)
    applied = session.execute("SELECT app || '.' || name FROM django_migrations ORDER BY 1").fetchall()
    (event,) = session.execute("SELECT coalesce(max(id), 0) FROM events").fetchone() or (0,)
    heads = session.execute(HEADS).fetchall() if _has(session, SEALS) else []
    rows = {}
    for table in (one for one in tables if _has(session, one)):
        added = sql.SQL(
            "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} t"
        )
        rows[table] = list(session.execute(added.format(sql.Identifier(table))).fetchone() or ())
    return {
        "server": server, "migrations": [name for (name,) in applied], "last_event": event, "heads": dict(heads),
        "rows": rows,
    }  # fmt: skip


def _has(session: psycopg.Connection[Any], table: str) -> bool:
    (found,) = session.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone() or (False,)
    return bool(found)


def _dump(name: str) -> Iterator[bytes]:
    command = [str(program("pg_dump")), "--format=custom", f"--snapshot={name}", f"--dbname={_target()}"]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=_environ(),
            preexec_fn=bound_to_parent(signal.SIGTERM),
        ) as process:  # fmt: skip
            try:
                yield from iter(lambda: process.stdout.read(READ) if process.stdout else b"", b"")
            except GeneratorExit:
                process.kill()
                raise
        if process.returncode:
            raise Rejected(f"pg_dump failed: {_last_line(errors)}", code="dump_failed")


def load(pieces: Iterable[bytes]) -> None:
    """Restore a dump into the empty database of Django's default connection, in one transaction.

    Raises Rejected (restore_failed) where pg_restore fails; the database is then as empty as before.
    """
    command = [
        str(program("pg_restore")), "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
        "--no-comments", f"--dbname={_target()}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=_environ(),
            preexec_fn=bound_to_parent(signal.SIGTERM),
        ) as process:  # fmt: skip
            try:
                for piece in pieces:
                    process.stdin.write(piece)  # type: ignore[union-attr]
            except BrokenPipeError:  # it failed: its exit status tells
                pass
            except BaseException:
                process.kill()
                raise
            finally:
                with suppress(BrokenPipeError):  # of what was not written yet
                    process.stdin.close()  # type: ignore[union-attr]
        if process.returncode:
            raise Rejected(f"pg_restore failed: {_last_line(errors)}", code="restore_failed")


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return redact.text(lines[0] if lines else "without a message")


TABLES = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg_toast%' AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""


def check_empty() -> None:
    """Raise Rejected (not_empty) where the database has a table, view or sequence of its own."""
    with _session() as session:
        (found,) = session.execute(TABLES).fetchone() or (0,)
    if found:
        name = connection.settings_dict["NAME"]
        raise Rejected(
            f"the database {name} has {found} tables, views or sequences: restore into an empty one, a backup never "
            "replaces data",
            code="not_empty",
        )


def differences(stated: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return a sentence for each table that differs from what the backup counted and added up."""
    return [
        f"{table}: {found['rows'].get(table, [0])[0]} rows, the backup has {rows[0]}"
        + ("" if found["rows"].get(table, [0])[0] != rows[0] else ", with other content")
        for table, rows in stated["rows"].items()
        if found["rows"].get(table) != rows
    ]
