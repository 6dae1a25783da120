"""Celery tasks of trading: execute, settle, reconcile, bill, and warn of expiring approvals."""

from typing import Any

import structlog
from celery import Task, shared_task
from django.db import connection

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.core.terms import Purpose
from maxxit.events import wake
from maxxit.pipeline.release import Fenced
from maxxit.pipeline.runs import Counts, run_stage
from trading import execute, passes, quarantine, settle
from trading.billing import debts, subscriptions
from trading.chain import transfers
from trading.credentials import requests
from trading.deployments.funding import UNFUNDED, at_paper, book_deposits, fund_due
from trading.entries import crowd, pace, planning
from trading.models import Order
from trading.operations import approvals, change_requests
from trading.reconciliation import cycle
from trading.risk.limits_in_force import risk_limits
from trading.shards import ALL, Shard, others
from trading.states import IN_FLIGHT, IN_FLIGHT_SQL, OrderState
from trading.venues import hours
from trading.wiring import liquidating_venues, venue

log = structlog.get_logger(__name__)


WORK = f"""
SELECT EXISTS (SELECT FROM orders WHERE state IN {IN_FLIGHT_SQL} AND purpose = 'open'),
       (SELECT count(*) FROM (
           SELECT FROM orders WHERE state = 'planned' AND purpose = 'open' AND reason <> 'awaiting_confirmation' LIMIT 2
       ) AS planned),
       EXISTS (SELECT FROM signals WHERE state = 'pending'),
       EXISTS (SELECT FROM signals WHERE state = 'pending' AND expires_at <= %(now)s),
       EXISTS ({UNFUNDED})
"""  # noqa: S608 (constants only)
"""Whether there are entries in flight, the number of planned entries (2 for more), whether there are pending signals,
pending signals past their time, and paper deployments that are not funded."""


def entry_pass(shard: Shard = ALL) -> Counts:
    """Run one pass of the execute stage: settle entries in flight, then plan and place new ones.

    The first shard plans the entries of all, and wakes the others. When the time budget runs out, the next pass is
    woken at once; when the platform's pace does, by the next settle sweep. Steps without work are left out: one
    statement tells which. What arrives after it wakes the next pass.
    """
    seconds = passes.policy().pass_seconds
    settling_time, placing_time = passes.TimeBudget(seconds), passes.TimeBudget(2 * seconds)
    with connection.cursor() as cursor:
        cursor.execute(WORK, {"now": clock.now(), **at_paper()})
        in_flight, to_place, pending, late, unfunded = cursor.fetchone()
    settled = settle.settle_due("open", settling_time, shard) if in_flight else 0
    expired = planned = 0
    if shard.index == 0:
        expired = planning.expire_signals() if late else 0
        if unfunded:
            fund_due()
        planned = planning.fan_out(between=execute.give_way) if pending else 0
        _wake_others(shard)
    limits = risk_limits()  # where it cannot be read only new entries stop
    opening = execute.PlacementCounts()
    if to_place + planned:
        entries = shard.of(Order.objects.filter(purpose=Purpose.OPEN))
        shares = crowd.read_shares(limits) if to_place + planned > 1 else {}
        opening = execute.place_due_orders(entries, limits, placing_time, shares=shares)
    signals = planning.finish_signals() if pending else {"executed": 0}
    if opening.waiting:
        pace.note_waiting()  # the settle sweep wakes the next pass (`wake_left_behind`)
    if settling_time.cut or placing_time.cut:
        wake.after_commit("orders.waiting")
    return Counts(
        into=planned + settled,
        out=opening.sent + settled,
        detail={
            "planned": planned,
            "sent": opening.sent,
            "blocked": opening.blocked,
            "waiting": opening.waiting,
            "settled": settled,
            "expired": expired,
            "signals": signals,
        },
    )


def _wake_others(shard: Shard) -> None:
    """Send the execute task of each other shard that has entries to place or to settle."""
    if shard.count == 1:
        return
    states = (OrderState.PLANNED, *IN_FLIGHT)
    entries = Order.objects.filter(purpose=Purpose.OPEN, state__in=states)
    for other in others(shard.count):
        if other.of(entries).exists():
            wake.wake_task("trading.tasks.execute", shard=other.index)


IN_FLIGHT_COUNT = f"""
SELECT count(*) FROM orders WHERE state IN {IN_FLIGHT_SQL} AND %(purpose)s IN ('', purpose)
"""  # noqa: S608 (constants only)


def settle_pass(purpose: str = "") -> Counts:
    """Settle every order in flight, or those of one purpose."""
    with connection.cursor() as cursor:
        cursor.execute(IN_FLIGHT_COUNT, {"purpose": purpose})
        [count] = cursor.fetchone()
    budget = passes.TimeBudget(passes.policy().pass_seconds)
    return Counts(count, settle.settle_due(purpose, budget) if count else 0)


LEFT_BEHIND = """
SELECT EXISTS (SELECT FROM orders WHERE state = 'planned' AND purpose = 'open' AND attempts < %(tries)s
               AND reason <> 'awaiting_confirmation')
    OR EXISTS (SELECT FROM signals s WHERE s.state = 'pending'
               AND NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.purpose = 'open'))
"""


def wake_left_behind() -> bool:
    """Wake `execute` if an entry or a signal waits for it: its own wake may have been lost with Redis.

    Return whether something waits. Without this an entry would wait for the half-hourly sweep.
    """
    with connection.cursor() as cursor:
        cursor.execute(LEFT_BEHIND, {"tries": quarantine.TRIES})
        [waiting] = cursor.fetchone()
    if waiting:
        wake.after_commit("orders.waiting")
    return bool(waiting)


@shared_task(name="trading.tasks.settle", base=Fenced)
def run_settle() -> int:
    """Settle entries in flight, and wake `execute` for entries left behind; return how many orders changed."""
    wake.started("trading.tasks.settle")
    moved = settle_pass("open").out
    wake_left_behind()
    return moved


@shared_task(name="trading.tasks.reconcile")
def run_reconcile() -> int:
    """Check every Safe and its pools again, activate drafts whose owners signed meanwhile, reconcile with the chain.

    Return the number of unexplained differences.
    """
    if not Deployment.objects.exclude(safe_wallet="").exists():
        return 0
    from trading.deployments.wallet_setup import finish_due
    from trading.venues.safe import reconcile as chain  # loads the chain libraries
    from trading.venues.safe.safes import recheck_all

    recheck_all()
    safes, gas_balances = chain.reconcile_all(), chain.gas_balances()
    finish_due()
    return sum(bool(one.unexplained) for one in safes) + sum(bool(one.unexplained) for one in gas_balances)


@shared_task(name="trading.tasks.reconcile_accounts", base=Fenced)
def run_account_checks() -> dict[str, Any]:
    """Look at the open orders and the holdings of every account that is due; return the numbers."""
    return cycle.run_due()


@shared_task(name="trading.tasks.book_deposits", base=Fenced)
def run_deposits() -> int:
    """Book what accounts at brokers hold when their deployments start; return how many."""
    return book_deposits()


@shared_task(name="trading.tasks.answer_credentials", base=Fenced)
def run_credentials() -> int:
    """Test the keys that customers sent and store those that may be used; return how many requests were answered."""
    wake.started("trading.tasks.answer_credentials")
    return requests.answer_due()


@shared_task(name="trading.tasks.refresh_calendar", base=Fenced)
def run_calendar() -> int:
    """Store the sessions of the stock exchange that a venue publishes; return how many."""
    return hours.refresh_calendar()


@shared_task(name="trading.tasks.bill", base=Fenced)
def run_billing() -> dict[str, int]:
    """Charge the months of subscriptions that have begun, and alert of debts; return the counts."""
    billed = subscriptions.bill()
    alerts = debts.alert_uncollected()
    return {"due": billed.due, "charged": billed.charged, "failed": billed.failed, "alerts": alerts}


@shared_task(name="trading.tasks.claim_earned", base=Fenced)
def run_claims() -> int:
    """Claim the funding that venues keep until it is claimed; return how many claims were sent."""
    sent, budget = 0, passes.TimeBudget(passes.policy().pass_seconds)
    for name in liquidating_venues():
        try:
            sent += venue(name).claim_earned(budget)
        except MaxxitError as error:  # the next run tries again; the others go on
            log.warning("funding_not_claimed", venue=name, error=str(error))
    return sent


@shared_task
def watch_approvals() -> int:
    """Warn staff of approvals that expire soon or have expired, end requests that are too old; return how many."""
    return approvals.warn() + change_requests.expire_due()


@shared_task(name="trading.tasks.execute", bind=True, base=Fenced)
def run_execute(self: Task, run_id: int | None = None, shard: int = 0) -> dict[str, Any]:
    """Run `entry_pass` as the execute stage of pipeline run `run_id`, or on its own, for one shard of the accounts."""
    part = Shard(shard, passes.policy().shards)
    return run_stage("execute", lambda: entry_pass(part), run_id=run_id, task=self, shard=shard)


@shared_task
def watch_transfers() -> int:
    """Report the transfers of watched addresses; returns how many."""
    return transfers.watch()
