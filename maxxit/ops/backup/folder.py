"""The folder of backups: names, a file that appears only when it is whole, and which ones are kept."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from maxxit.core.clock import iso_utc
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.ops.backup import archive
from maxxit.reports.backup_policy import Keep

FOLDER = "BACKUP_FOLDER"
STAMP = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"maxxit-(\d{8}T\d{6}Z)\.tar(\.age)?")
PARTIAL = ".partial"
ABANDONED = timedelta(days=1)
"""An unfinished file is written to all the time."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup."""

    path: Path
    at: datetime
    """The moment of its data, UTC."""
    bytes: int

    def as_json(self) -> dict[str, object]:
        return {"path": str(self.path), "at": iso_utc(self.at), "bytes": self.bytes}


def configured(given: Path | None = None) -> Path:
    """Return the folder of backups. Raises Misconfigured where none is given or set."""
    name = str(given or variable(FOLDER))
    if not name:
        raise Misconfigured(
            f"no folder for backups: set {FOLDER} to one on another disk than the database, or give --to"
        )
    return Path(name)


def backups(folder: Path) -> list[Backup]:
    """Return the whole backups of a folder, newest first; other files are left out."""
    found = []
    for path in folder.glob("maxxit-*") if folder.is_dir() else ():
        if match := NAME.fullmatch(path.name):
            at = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)
            found.append(Backup(path, at, path.stat().st_size))
    return sorted(found, key=lambda one: one.at, reverse=True)


@contextmanager
def new_file(folder: Path, at: datetime, *, encrypted: bool) -> Iterator[tuple[Path, IO[bytes]]]:
    """Yield the path and an open file of a new backup. It appears under its name when the block ends without an error.

    What killed processes left in the folder is deleted first. Raises Rejected where the folder cannot be written, or
    has a backup of the same second.
    """
    path = folder / f"maxxit-{at:{STAMP}}{archive.ENCRYPTED if encrypted else archive.PLAIN}"
    partial = path.with_name(path.name + PARTIAL)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_abandoned(folder, at)
        file = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise Rejected(f"{partial} is being written by another process", code="file_exists") from None
    except OSError as error:
        raise Rejected(f"{partial} cannot be written: {error.strerror}", code="no_file") from None
    try:
        with file:
            if path.exists():
                raise Rejected(f"{path} exists: a backup is never overwritten", code="file_exists")
            yield path, file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise Rejected(f"{partial} cannot be written: {error.strerror}", code="no_file") from None
    finally:
        partial.unlink(missing_ok=True)


def _delete_abandoned(folder: Path, now: datetime) -> None:
    """Delete the unfinished files of backups that nobody has written to for `ABANDONED`."""
    for partial in folder.glob(f"maxxit-*{PARTIAL}"):
        if partial.stat().st_mtime < (now - ABANDONED).timestamp():
            partial.unlink(missing_ok=True)


def expired(moments: Iterable[datetime], keep: Keep) -> set[datetime]:
    """Return the moments whose backups may be deleted: those that are not the newest of a day, week or month to keep.

    The newest of all always stays. Days, weeks and months without a backup do not count.
    """
    newest_first = sorted(moments, reverse=True)
    kept = set(newest_first[:1])
    for number, period in ((keep.daily, "%Y-%m-%d"), (keep.weekly, "%G-%V"), (keep.monthly, "%Y-%m")):
        by_period: dict[str, datetime] = {}
        for moment in newest_first:
            by_period.setdefault(moment.strftime(period), moment)
        kept.update(list(by_period.values())[:number])
    return set(newest_first) - kept


def prune(folder: Path, keep: Keep) -> list[Path]:
    """Delete the backups that are not kept; return their paths."""
    found = backups(folder)
    gone = expired((one.at for one in found), keep)
    paths = [one.path for one in found if one.at in gone]
    for path in paths:
        path.unlink(missing_ok=True)
    return paths
