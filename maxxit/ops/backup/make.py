"""Make a backup: one moment of the database with facts to check it by, and files, in one encrypted file."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import DatabaseError

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.core.secret_files import secret
from maxxit.events.record import NewEvent, write
from maxxit.ops.backup import archive, database, folder, parts
from maxxit.pipeline import release
from maxxit.reports.backup_policy import Part, policy
from maxxit.reports.backups import FAILED, MADE

PASSPHRASE = "BACKUP_PASSPHRASE"  # noqa: S105 (the name of a variable)
MIN_PASSPHRASE = 16
"""Characters: a stolen backup can be tried with any number of passphrases."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new backup, and those that were deleted after it."""

    path: Path
    bytes: int
    seconds: float
    facts: dict[str, Any]
    files: list[str]
    left_out: list[str]
    """Files with secrets that a backup without encryption does not hold."""
    deleted: list[Path]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path), "bytes": self.bytes, "seconds": round(self.seconds, 2), "files": self.files,
            "left_out": self.left_out, "deleted": [str(path) for path in self.deleted],
            "rows": {table: count for table, (count, _) in self.facts["rows"].items()},
        }  # fmt: skip


def passphrase() -> str:
    """Return the passphrase. Raises Misconfigured where it is missing or short."""
    found = secret(PASSPHRASE)
    if len(found) < MIN_PASSPHRASE:
        raise Misconfigured(
            f"{PASSPHRASE}: set it (or {PASSPHRASE}_FILE) to at least {MIN_PASSPHRASE} characters, and keep a copy "
            "away from this machine: without it no backup can be opened"
        )
    return found


def back_up(to: Path | None = None, include: Sequence[Part] | None = None, *, encrypted: bool = True) -> Made:
    """Make a backup, record it, and delete those that are no longer kept.

    Args:
        to: the folder; else BACKUP_FOLDER.
        include: the parts besides the database; else those of config/backups.yaml.
        encrypted: False writes plain text, which leaves `.env` out and is refused with keys.

    Raises:
        MaxxitError: it was not made. This and every other error is recorded; no file is left, and none is deleted.
    """
    try:
        made = _make(folder.configured(to), policy().include if include is None else include, encrypted)
    except Exception as error:
        record_failure(NewEvent(FAILED, "backup", None, {"error": failure_text(error)}))
        raise
    name, facts = made.path.name, made.facts
    data = {"bytes": made.bytes, "seconds": round(made.seconds, 2), "last_event": facts["last_event"]}
    write([NewEvent(MADE, f"backup/{name}", None, data)])
    return made


def failure_text(error: Exception) -> str:
    """Return what an event says of an error: its message, and its kind where it is none of ours."""
    return str(error) if isinstance(error, MaxxitError) else f"{type(error).__name__}: {error}"


def record_failure(event: NewEvent) -> None:
    """Write the event, unless the database is away: then the error that it tells of is raised alone."""
    with suppress(DatabaseError):
        write([event])


def _make(into: Path, include: Sequence[Part], encrypted: bool) -> Made:
    if not encrypted and "keys" in include:
        raise Misconfigured("a backup with keys is always encrypted: leave keys out, or set a passphrase")
    opens_with = passphrase() if encrypted else ""
    began, at = time.monotonic(), clock.now()
    files = dict(parts.files(include))
    left_out = [] if encrypted else [str(files.pop(name)) for name in parts.SECRET if name in files]
    with (
        folder.new_file(into, at, encrypted=encrypted) as (path, file),
        archive.create(file, opens_with) as backup,
        database.snapshot() as (facts, pieces),
    ):
        backup.manifest(
            {"at": iso_utc(at), "release": release.mine(), "include": list(include), "facts": facts}
        )
        backup.database(pieces)
        for name, source in files.items():
            backup.file(name, source)
        backup.end()
    deleted = folder.prune(into, policy().keep)
    return Made(path, path.stat().st_size, time.monotonic() - began, facts, list(files), left_out, deleted)
