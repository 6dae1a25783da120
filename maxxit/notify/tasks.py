"""Celery tasks that match price rules and send deliveries."""

from dataclasses import asdict
from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from maxxit.events import wake
from maxxit.notify import alerts, rules, worker
from maxxit.notify.models import DigestSlot

KEEP = timedelta(days=90)
"""Of alerts, matches and their deliveries: the delivery log goes back so far."""


@shared_task(name=rules.MATCH_TASK)
def match() -> int:
    """Match price rules against the prices accepted since the last pass; return how many deliveries were created."""
    wake.started(rules.MATCH_TASK)
    return rules.match()


@shared_task
def tidy() -> dict[str, int]:
    """Delete alerts, rule matches and their deliveries past retention; return how many rows."""
    now = timezone.now()
    alerts.forget(now)
    DigestSlot.objects.filter(due_at__lt=now - KEEP).delete()
    return {"alerts": alerts.prune(now - KEEP), "matches": rules.prune(now - KEEP)}


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
