"""Celery tasks that send deliveries."""

from dataclasses import asdict

from celery import shared_task

from maxxit.events import wake
from maxxit.notify import worker


@shared_task(name=worker.DELIVER_TASK)
def deliver() -> dict[str, int]:
    """Sweep: send what is due, staff alerts first; returns how many were sent, put off and given up."""
    wake.started(worker.DELIVER_TASK)
    return asdict(worker.deliver())


@shared_task(name=worker.ALERT_TASK)
def alert() -> dict[str, int]:
    """Send the staff alerts that are due; returns how many were sent, put off and given up."""
    wake.started(worker.ALERT_TASK)
    return asdict(worker.deliver_alerts())
