"""Make a backup: one moment of the database with facts to check it by, and files, in one encrypted file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    deleted: list[Path]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path), "bytes": self.bytes, "seconds": round(self.seconds, 2), "files": self.files,
            "deleted": [str(path) for path in self.deleted],
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
        encrypted: False writes plain text, which is refused with keys.

    Raises:
        MaxxitError: it was not made, which is recorded; no file is left, and none is deleted.
    """
    try:
        made = _make(folder.configured(to), policy().include if include is None else include, encrypted)
    except MaxxitError as error:
        write([NewEvent(FAILED, "backup", None, {"error": str(error)})])
        raise
    name, facts = made.path.name, made.facts
    data = {"bytes": made.bytes, "seconds": round(made.seconds, 2), "last_event": facts["last_event"]}
    write([NewEvent(MADE, f"backup/{name}", None, data)])
    return made


def _make(into: Path, include: Sequence[Part], encrypted: bool) -> Made:
    if not encrypted and "keys" in include:
        raise Misconfigured("a backup with keys is always encrypted: leave keys out, or set a passphrase")
    opens_with = passphrase() if encrypted else ""
    began, at = time.monotonic(), clock.now()
    names = []
    with (
        folder.new_file(into, at, encrypted=encrypted) as (path, file),
        archive.create(file, opens_with) as backup,
        database.snapshot() as (facts, pieces),
    ):
        backup.manifest(
            {"at": iso_utc(at), "release": release.mine(), "include": list(include), "facts": facts}
        )
        backup.database(pieces)
        for name, source in parts.files(include):
            backup.file(name, source)
            names.append(name)
        backup.end()
    deleted = folder.prune(into, policy().keep)
    return Made(path, path.stat().st_size, time.monotonic() - began, facts, names, deleted)
