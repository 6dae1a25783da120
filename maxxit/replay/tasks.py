"""Celery task of previews."""

from celery import shared_task

from maxxit.events import wake
from maxxit.replay.previews import start_due


@shared_task(name="maxxit.replay.tasks.start_previews")
def start_previews() -> int:
    """Sweep: start the previews that wait, each in a process of its own; return how many."""
    wake.started("maxxit.replay.tasks.start_previews")
    return start_due()
