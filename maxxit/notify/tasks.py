"""Celery's side of telling people."""

from dataclasses import asdict

from celery import shared_task

from maxxit.events import wake
from maxxit.notify import worker


@shared_task(name="maxxit.notify.tasks.deliver")
def deliver() -> dict[str, int]:
    """Sweep: send what is due; returns how many were sent, put off and given up."""
    wake.started("maxxit.notify.tasks.deliver")
    return asdict(worker.deliver())
