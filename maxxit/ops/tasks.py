"""Celery tasks of operations."""

from celery import shared_task

from maxxit.core.config import variable
from maxxit.events import seals
from maxxit.ops import beat_watch
from maxxit.ops.backup import drill, folder, make
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
def back_up() -> str:
    """Make a backup; return its name, or an empty text where no folder is set."""
    return make.back_up().path.name if variable(folder.FOLDER) else ""


@shared_task
def seal_audit_log() -> int:
    """Seal the new rows of the audit log; return how many."""
    return sum(one.rows for one in seals.seal())


@shared_task
def verify_audit_log() -> bool:
    """Verify the seals of the last weeks and record the result; return whether all hold."""
    return audit.verify_recent()


@shared_task
def drill_backup() -> str:
    """Restore the newest backup into a server of its own and check it; return its name, or an empty text as above."""
    return drill.drill().path.name if variable(folder.FOLDER) else ""
