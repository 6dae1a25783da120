"""Restore a backup into an empty database, or take over one that Postgres itself restored to a moment.

The machine then sends nothing until an operator has compared the books.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection

from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected, Retryable
from maxxit.core.terms import KillLevel
from maxxit.events.models import Event
from maxxit.events.record import NewEvent, write
from maxxit.ops import migrated
from maxxit.ops.backup import archive, database, parts
from maxxit.pipeline import release
from maxxit.reports import audit, invariants
from maxxit.reports.backups import RESTORED
from maxxit.reports.checks import Check
from positions.exits import pauses
from trading import gate

ROWS = "rows are those of the backup"
SKIPPED_IDS = 1_000_000
"""How far the sequences move ahead: an id that was given out after the backup may be known to a venue."""
BY = "manage.py restore"


@dataclass(slots=True)
class Restored:
    """What a restore brought back."""

    at: str
    """The moment whose state it is, ISO 8601."""
    release: str
    """The release that wrote the backup; this one where Postgres restored the database."""
    checks: list[Check]
    rows: dict[str, int] = field(default_factory=dict)
    """Table -> rows that the backup states; empty where Postgres restored the database."""
    files: list[Path] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok, "at": self.at, "release": self.release, "rows": self.rows,
            "checks": [check.as_json() for check in self.checks], "files": [str(path) for path in self.files],
        }  # fmt: skip


@contextmanager
def opened(path: Path, passphrase: str) -> Iterator[archive.Contents]:
    """Yield a backup that this release can restore. Raises Rejected (newer_release, too_old) where it cannot."""
    with archive.read(path, passphrase) as contents:
        applied = contents.manifest["facts"]["migrations"]
        newer, missing = migrated.unknown(applied), migrated.lost(applied)
        if newer:
            raise Rejected(
                f"the backup was made by a later release (migrations {', '.join(newer[:5])}): install release "
                f"{contents.manifest['release']} or newer",
                code="newer_release",
            )
        if missing:
            raise Rejected(
                f"the backup is too old for this release (it lacks {', '.join(missing[:5])}): restore it with release "
                f"{contents.manifest['release']}, then run `manage.py setup` of each release that followed",
                code="too_old",
            )
        yield contents


def load(contents: archive.Contents) -> Check:
    """Load the database of a backup into the empty one and migrate it; return whether the rows are those of the backup.

    They are compared before the migrations, which may change them. Raises Rejected (not_migrated) where one fails.
    """
    database.load(contents.database())
    rows = _compare(contents.manifest["facts"])
    _migrate("the backup was loaded", "drop it, and restore with another release")
    return rows


def _migrate(done: str, advice: str) -> None:
    try:
        call_command("migrate", verbosity=0, interactive=False)
    except Exception as error:
        raise Rejected(
            f"{done}, but its migrations failed: {error}. Trading is not stopped in this database: "
            f"start nothing with it, {advice}",
            code="not_migrated",
        ) from error


def _compare(stated: dict[str, Any]) -> Check:
    """Compare the rows with what the backup states; one that cannot be compared is a failed check and ends nothing."""
    try:
        different = database.differences(stated, database.facts(list(stated["rows"])))
    except Exception as error:
        return Check(ROWS, False, f"cannot be compared: {error}", "use another backup")
    named = "; ".join(different) or f"{len(stated['rows'])} tables, counted and added up"
    return Check(ROWS, not different, named, "use another backup" if different else "")


def check() -> list[Check]:
    """Check the restored database: what must be true of the money, and the seals of the audit log."""
    return [*invariants.check_all(), audit.check_seals()]


def restore(path: Path, passphrase: str, files_to: Path) -> Restored:
    """Restore a backup into the empty database of Django's default connection, with the owner's rights.

    Entries are stopped by a latched kill switch and the exits are paused: what was traded after the backup is known to
    the venues and not to the database. Files go below `files_to`; nothing is replaced.

    Raises:
        Rejected: the database or `files_to` is not empty, or the backup is damaged, of a later release, or of another
            passphrase. The database is then as empty as before, unless only the files at the end are damaged.
    """
    database.check_empty()
    parts.check_free(files_to)
    with opened(path, passphrase) as contents:
        rows = load(contents)
        stated = contents.manifest
        _stop_trading(f"the backup of {stated['at']}")  # before anything that can fail
        counts = {table: count for table, (count, _) in stated["facts"]["rows"].items()}
        restored = Restored(stated["at"], stated["release"], [rows, *check()], counts)
        for name, content in contents.files():
            restored.files.append(parts.place(name, content, files_to))
    return _finish(restored, f"backup/{path.name}"[:80])


def take_over() -> Restored:
    """Stop trading in the database that Postgres, or its provider, restored to a moment; check it as a backup.

    Its newest event states the moment. Nothing else may run with the database.

    Raises:
        Rejected: it has no tables of ours, or cannot be migrated.
        Retryable: the server still replays its log.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        if cursor.fetchone()[0]:
            raise Retryable(
                "the server still replays its log, or waits at its target: see its log, and run this again "
                "(`SELECT pg_wal_replay_resume()` ends a wait)"
            )
        if Event._meta.db_table not in connection.introspection.table_names(cursor):
            raise Rejected(
                "the database has no tables of Maxxit: restore a backup by `manage.py restore FILE`",
                code="no_tables",
            )
    _migrate("the database answers", "restore it again, and use another release")
    newest = Event.objects.order_by("-pk").first()
    at = iso_utc(newest.at) if newest else ""
    _stop_trading(f"the log of Postgres, newest event {at or 'none'}")
    return _finish(Restored(at, release.mine(), check()), "backup/postgres")


def _finish(restored: Restored, subject: str) -> Restored:
    """Record a restore and give the roles their rights."""
    data = {"at": restored.at, "ok": restored.ok, "release": restored.release}
    write([NewEvent(RESTORED, subject, None, data)])
    call_command("roles", verbosity=0)
    return restored


def _stop_trading(source: str) -> None:
    """Move the sequences ahead, latch the kill switch and pause the exits."""
    with connection.cursor() as cursor:
        cursor.execute(SEQUENCES, [SKIPPED_IDS])
    reason = f"restored from {source}: docs/backups.md, After a restore"
    gate.kill(KillLevel.NO_ENTRIES, by=BY, reason=reason, cause="restore")
    if pauses.current_pause() is None:
        pauses.pause(by=BY, reason=reason)


SEQUENCES = """
SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, coalesce(last_value, 0) + %s)
FROM pg_sequences WHERE schemaname = 'public' AND data_type = 'bigint'::regtype
"""
