"""Celery tasks of operations."""

from celery import shared_task

from maxxit.ops import beat_watch
from maxxit.reports import digests


@shared_task
def watch() -> list[str]:
    """Alert of checks of the health page that began to fail or passed again, and of conditions of single rows."""
    return beat_watch.watch()


@shared_task
def send_digests() -> int:
    """Write the digests that are due in their users' time zones; return how many became a message."""
    return digests.send_due()
