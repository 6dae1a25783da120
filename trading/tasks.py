"""Celery's side of trading: what happens is in `execute` and `settle`."""

from typing import Any

import structlog
from celery import Task, shared_task
from django.db import connection

from agents.models import Deployment
from maxxit.core.errors import Retryable, Unknown
from maxxit.events import wake
from maxxit.pipeline.release import Fenced
from maxxit.pipeline.runs import Counts, run_stage
from trading import execute as executing
from trading import poison
from trading import settle as settling
from trading.fund import fund_due
from trading.models import Order
from trading.policy import policy
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

BATCH = 200
"""Orders per pass; the rest is the next pass's, which follows at once."""


def execute_pass() -> Counts:
    """One pass of the fourth stage: exits first, then what is in flight, then new entries."""
    closing = executing.place_due("close", policy(), BATCH)
    settled = settling.settle_due()
    expired = executing.expire()
    fund_due()
    planned = executing.fan_out()
    opening = executing.place_due("open", policy(), BATCH)
    signals = executing.conclude()
    if max(closing.due, opening.due) >= BATCH:
        wake.after_commit("orders.waiting")
    return Counts(
        into=planned + settled + closing.sent + sum(closing.blocked.values()),
        out=opening.sent + closing.sent + settled,
        detail={
            "planned": planned,
            "sent": opening.sent,
            "blocked": opening.blocked,
            "closing_sent": closing.sent,
            "closing_blocked": closing.blocked,
            "settled": settled,
            "expired": expired,
            "signals": signals,
        },
    )


def settle_pass() -> Counts:
    """Ask about every order in flight."""
    in_flight = Order.objects.filter(state__in=IN_FLIGHT).count()
    return Counts(in_flight, settling.settle_due() if in_flight else 0)


LEFT_BEHIND = """
SELECT EXISTS (SELECT FROM orders WHERE state = 'planned' AND attempts < %(tries)s)
    OR EXISTS (SELECT FROM signals s WHERE s.state = 'pending'
               AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.purpose = 'open'))
"""


def wake_left_behind() -> bool:
    """Wake `execute` where its own wake was lost with Redis: an exit must not wait for half an hour."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT_BEHIND, {"tries": poison.TRIES})
        [waiting] = cursor.fetchone()
    if waiting:
        wake.after_commit("orders.waiting")
    return bool(waiting)


@shared_task(base=Fenced)
def settle() -> int:
    """Sweep: how orders in flight stand, between the passes of `execute`; and whether one was left behind."""
    moved = settle_pass().out
    wake_left_behind()
    return moved


@shared_task
def reconcile() -> int:
    """Look again at every Safe and its pools, then hold Safes and executors' purses against the chain; returns how many
    differ and nothing explains it."""
    if not Deployment.objects.exclude(safe_wallet="").exists():
        return 0
    from trading.chain import reconcile as chain  # brings the chain's libraries
    from trading.chain.safes import recheck_all

    recheck_all()
    try:
        safes, purses = chain.reconcile_all(), chain.purses()
    except (Retryable, Unknown) as error:  # the next look is soon enough
        log.warning("chain_not_read", error=str(error))
        return 0
    return sum(bool(one.unexplained) for one in safes) + sum(bool(one.unexplained) for one in purses)


@shared_task(bind=True, base=Fenced)
def execute(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: every planned order to its venue, every order in flight to its end."""
    return run_stage("execute", execute_pass, run_id=run_id, task=self)
