"""Celery tasks of operations."""

import subprocess
import sys

from celery import shared_task

from maxxit.core.config import ROOT, variable
from maxxit.events import seals
from maxxit.ops import beat_watch
from maxxit.ops.backup import folder
from maxxit.reports import audit, digests


@shared_task
def watch() -> list[str]:
    """Alert of checks of the health page that began to fail or passed again, and of conditions of single rows."""
    return beat_watch.watch()


@shared_task
def send_digests() -> int:
    """Write the digests that are due in their users' time zones; return how many became a message."""
    return digests.send_due()


@shared_task
def back_up() -> bool:
    """Start a backup; return False where no folder is set."""
    return _start("backup")


@shared_task
def seal_audit_log() -> int:
    """Seal the new rows of the audit log; return how many."""
    return sum(one.rows for one in seals.seal())


@shared_task
def verify_audit_log() -> bool:
    """Verify the seals of the last weeks and record the result; return whether all hold."""
    return audit.verify_recent()


@shared_task
def drill_backup() -> bool:
    """Start a drill of the newest backup; return False where no folder is set."""
    return _start("backup", "drill")


def _start(*arguments: str) -> bool:
    """Start a command in a process of its own: it may run for hours, and no task waits for it meanwhile."""
    if not variable(folder.FOLDER):
        return False
    command = [sys.executable, "manage.py", *arguments]
    subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return True
