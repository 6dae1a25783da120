"""Drill a restore: load a backup into a database that is thrown away, check it, and record the result."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxxit.core.errors import Rejected
from maxxit.embedded.scratch import empty_database
from maxxit.events.record import NewEvent, write
from maxxit.ops.backup import folder, make, restore
from maxxit.reports.backups import DRILLED
from maxxit.reports.checks import Check

PURPOSE = "drill"


@dataclass(frozen=True, slots=True)
class Drilled:
    """The result of a drill."""

    path: Path
    seconds: float
    checks: list[Check]
    files: int

    @property
    def failed(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if not check.ok]

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": not self.failed, "path": str(self.path), "seconds": round(self.seconds, 2), "files": self.files,
            "checks": [check.as_json() for check in self.checks],
        }  # fmt: skip


def drill(path: Path | None = None, to: Path | None = None) -> Drilled:
    """Restore a backup into a server of its own, check it and record the result as an event.

    Args:
        path: the backup; else the newest one of the folder.
        to: the folder; else BACKUP_FOLDER.

    Raises:
        MaxxitError: it could not be restored. This and every other error is recorded.
    """
    try:
        done = _drill(path or _newest(to))
    except Exception as error:
        make.record_failure(
            _event(path.name if path else "", ok=False, text=make.failure_text(error), seconds=0)
        )
        raise
    text = "; ".join(f"{check.name}: {check.detail}" for check in done.failed)
    write([_event(done.path.name, ok=not done.failed, text=text, seconds=done.seconds)])
    return done


def _newest(to: Path | None) -> Path:
    where = folder.configured(to)
    found = folder.backups(where)
    if not found:
        raise Rejected(f"there is no backup in {where}: `manage.py backup` makes one", code="no_backup")
    return found[0].path


def _drill(path: Path) -> Drilled:
    began = time.monotonic()
    encrypted = path.name.endswith(".age")
    with restore.opened(path, make.passphrase() if encrypted else "") as contents, empty_database(PURPOSE):
        checks = [restore.load(contents), *restore.check()]
        files = sum(1 for _ in contents.files())
    return Drilled(path, time.monotonic() - began, checks, files)


def _event(name: str, *, ok: bool, text: str, seconds: float) -> NewEvent:
    data = {"ok": ok, "problem": text, "seconds": round(seconds, 2)}
    return NewEvent(DRILLED, f"backup/{name}"[:80], None, data)
