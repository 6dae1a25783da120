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
from trading import approvals, execute, passes, quarantine, settle
from trading.fund import fund_due
from trading.limits_in_force import risk_limits
from trading.models import Order
from trading.policy import policy
from trading.states import IN_FLIGHT

log = structlog.get_logger(__name__)

BATCH = 200
"""Orders per pass; the rest is the next pass's, which follows at once."""


def execute_pass() -> Counts:
    """All of the fourth stage, for one process that does everything: closing orders first, then `entry_pass`.

    The workers divide it: closing orders are the exits worker's (`positions.tasks.sweep_exits`).
    """
    closing = execute.place_due("close", policy(), BATCH)
    settled = settle.settle_due("close")
    if closing.due >= BATCH:
        wake.after_commit("orders.waiting")
    entries = entry_pass()
    return Counts(
        into=entries.into + closing.sent + sum(closing.blocked.values()) + settled,
        out=entries.out + closing.sent + settled,
        detail=entries.detail | {"closing_sent": closing.sent, "closing_blocked": closing.blocked},
    )


def entry_pass() -> Counts:
    """One pass of the fourth stage: entries in flight, then new ones. What its time does not suffice for is the next
    pass's, which follows at once."""
    seconds = passes.policy().pass_seconds
    settling_time, placing_time = passes.TimeBudget(seconds), passes.TimeBudget(2 * seconds)
    settled = settle.settle_due("open", settling_time)
    expired = execute.expire()
    fund_due()
    planned = execute.fan_out()
    opening = execute.place_due("open", risk_limits(), BATCH, placing_time)
    signals = execute.conclude()
    if opening.due >= BATCH or settling_time.cut or placing_time.cut:
        wake.after_commit("orders.waiting")
    return Counts(
        into=planned + settled,
        out=opening.sent + settled,
        detail={
            "planned": planned,
            "sent": opening.sent,
            "blocked": opening.blocked,
            "settled": settled,
            "expired": expired,
            "signals": signals,
        },
    )


def settle_pass(purpose: str = "") -> Counts:
    """Ask about every order in flight, or those of one purpose."""
    in_flight = Order.objects.filter(state__in=IN_FLIGHT)
    count = (in_flight.filter(purpose=purpose) if purpose else in_flight).count()
    budget = passes.TimeBudget(passes.policy().pass_seconds)
    return Counts(count, settle.settle_due(purpose, budget) if count else 0)


LEFT_BEHIND = """
SELECT EXISTS (SELECT FROM orders WHERE state = 'planned' AND purpose = 'open' AND attempts < %(tries)s)
    OR EXISTS (SELECT FROM signals s WHERE s.state = 'pending'
               AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.purpose = 'open'))
"""


def wake_left_behind() -> bool:
    """Wake `execute` where its own wake was lost with Redis: an entry must not wait for half an hour."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT_BEHIND, {"tries": quarantine.TRIES})
        [waiting] = cursor.fetchone()
    if waiting:
        wake.after_commit("orders.waiting")
    return bool(waiting)


@shared_task(name="trading.tasks.settle", base=Fenced)
def run_settle() -> int:
    """Sweep: how entries in flight stand, between the passes of `execute`; and whether one was left behind."""
    moved = settle_pass("open").out
    wake_left_behind()
    return moved


@shared_task(name="trading.tasks.reconcile")
def run_reconcile() -> int:
    """Check every Safe and its pools again, then compare Safes and executors' balances with the chain.

    Returns how many differences nothing explains.
    """
    if not Deployment.objects.exclude(safe_wallet="").exists():
        return 0
    from trading.venues.safe import reconcile as chain  # brings the chain's libraries
    from trading.venues.safe.safes import recheck_all

    recheck_all()
    try:
        safes, gas_balances = chain.reconcile_all(), chain.gas_balances()
    except (Retryable, Unknown) as error:  # the next look is soon enough
        log.warning("chain_not_read", error=str(error))
        return 0
    return sum(bool(one.unexplained) for one in safes) + sum(bool(one.unexplained) for one in gas_balances)


@shared_task
def watch_approvals() -> int:
    """Warn staff of approvals that are about to expire; returns how many warnings."""
    return approvals.warn()


@shared_task(name="trading.tasks.execute", bind=True, base=Fenced)
def run_execute(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: every planned entry to its venue, every entry in flight to its end."""
    return run_stage("execute", entry_pass, run_id=run_id, task=self)
