"""Celery tasks that send deliveries."""

from dataclasses import asdict

from celery import shared_task

from maxxit.events import wake
from maxxit.notify import worker


@shared_task(name=worker.DELIVER_TASK)
def deliver() -> dict[str, int]:
    """Send due deliveries, staff alerts first; return how many were sent, postponed and given up."""
    wake.started(worker.DELIVER_TASK)
    return asdict(worker.deliver())


@shared_task(name=worker.ALERT_TASK)
def alert() -> dict[str, int]:
    """Send due staff alerts; return how many were sent, postponed and given up."""
    wake.started(worker.ALERT_TASK)
    return asdict(worker.deliver_alerts())
