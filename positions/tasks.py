"""Celery tasks of positions: exits, booking of fills, kill-switch triggers, daily snapshots, roll-up of the PnL."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import structlog
from celery import Task, shared_task
from django.db import DatabaseError

from maxxit.core import clock
from maxxit.events import wake
from maxxit.pipeline.release import Fenced
from maxxit.pipeline.runs import Counts, run_stage
from maxxit.postgres.failures import database_is_away
from positions import flatten, guard, liquidation_warnings, liquidations, withdrawals
from positions.book import book_pass
from positions.exits import at_venue, stop_moves, sweep
from positions.performance import day_ends, equity, identity, points, roll_up, summary
from positions.twin import record as twins
from trading import closing, passes, reconcile
from trading.shards import Shard

log = structlog.get_logger(__name__)


def exit_pass(lanes: closing.Lanes | None = None, searched: sweep.Searched | None = None) -> Counts:
    """Run one pass of the exits: claim due positions, place their closing orders, settle those in flight.

    Without `lanes` orders are processed one after the other in this thread. With what this process has `searched`
    before, what moved since is searched first.
    """
    done = closing.run(
        sweep.Sweep(passes.policy().batch, searched), lanes or closing.Lanes(0), at_venue.release
    )
    flatten.report()
    blocked = sum(done.placed.blocked.values())
    return Counts(
        into=done.claimed + done.placed.sent + blocked + done.settled,
        out=done.placed.sent + done.settled,
        detail={
            "leaving": done.claimed,
            "sent": done.placed.sent,
            "blocked": done.placed.blocked,
            "settled": done.settled,
            **({"held": done.placed.held} if done.placed.held else {}),
        },
    )


@cache
def _lanes() -> closing.Lanes:
    """Return this worker's threads, kept between passes so that an account still busy is skipped by the next."""
    return closing.Lanes(passes.policy().exits.lanes)


@cache
def _searched() -> sweep.Searched:
    """Return what this worker's process has searched in earlier passes."""
    return sweep.Searched()


@shared_task(bind=True, base=Fenced)
def sweep_exits(self: Task) -> dict[str, Any]:
    """Run `exit_pass` as the exits stage, with this worker's threads."""
    return run_stage("exits", lambda: exit_pass(_lanes(), _searched()), task=self)


@shared_task(name="positions.tasks.monitor", bind=True)
def run_monitor(self: Task, run_id: int | None = None, shard: int = 0) -> dict[str, Any]:
    """Run `book_pass` as the monitor stage of pipeline run `run_id`, or on its own, for one shard of the accounts."""
    part = Shard(shard, passes.policy().shards)
    done = run_stage("monitor", lambda: book_pass(part), run_id=run_id, task=self, shard=shard)
    if done["opened"] or done["closed"]:
        log.info("positions_changed", opened=done["opened"], closed=done["closed"])
    return done


@shared_task
def tell_stop_moves() -> int:
    """Tell owners of trailing stops that moved; return how many."""
    return stop_moves.tell()


@shared_task
def watch_risk() -> list[str]:
    """Check the kill-switch triggers; return the causes pulled.

    Then warn of positions near their liquidation, and close those whose tokens were withdrawn or that were liquidated.
    """
    pulled = guard.watch()
    liquidation_warnings.warn()
    withdrawals.close_withdrawn_positions()
    liquidations.adopt()
    return pulled


def margin_pass() -> Counts:
    """Book the funding of positions with margin and adopt liquidations, at once: a replay has no account checks."""
    accounts = liquidations.accounts()
    if accounts:
        reconcile.compare_settled(accounts)
    adopted = liquidations.adopt() if accounts else 0
    return Counts(len(accounts), adopted)


def watch_exits_pass() -> Counts:
    """Adopt the fills of exits that venues keep, and note which have ended."""
    changed = at_venue.watch(passes.TimeBudget(passes.policy().pass_seconds))
    return Counts(changed, changed)


@shared_task(base=Fenced)
def watch_venue_exits() -> int:
    """Run `watch_exits_pass`; return how many entries changed."""
    wake.started("positions.tasks.watch_venue_exits")
    return watch_exits_pass().out


def equity_pass() -> Counts:
    """Store the equity of every deployment where it has changed."""
    stored = points.take_points()
    return Counts(stored, stored)


@shared_task
def take_points() -> int:
    """Run `equity_pass`; return how many points were stored."""
    return equity_pass().out


@shared_task
def check_books() -> int:
    """Compare positions with the ledger; return how many deployments differ."""
    return len(identity.check_books().wrong)


@shared_task
def thin_points() -> int:
    """Delete equity points that are denser than their age allows; return how many."""
    return points.thin_points()


CATCH_UP = timedelta(days=31)
"""Days that ended longer ago are not made up: `manage.py pnl eod --day` ends one by hand."""
PUNCTUAL = timedelta(hours=1)
"""Within this after midnight, equity of now counts as that of the day's end."""


def _of_day(step: Callable[[date], int], day: date) -> int:
    """Return what `step` did for a day; 0 where the database refused it, which is logged. Raises where it is away."""
    try:
        return step(day)
    except DatabaseError as error:
        if database_is_away(error):
            raise
        log.warning("day_not_ended", day=day.isoformat(), error=str(error))
        return 0


def snapshot_pass() -> Counts:
    """End the UTC day that is over, and each earlier one that was not ended because nothing ran then.

    Each day is ended once: a pass that finds nothing to do changes nothing. A day that fails is tried at the next pass
    and stops no other.
    """
    now = clock.now()
    yesterday = now.date() - timedelta(days=1)
    first = now.date() - CATCH_UP
    stored = ended = 0
    if now - datetime.combine(now.date(), time(0), tzinfo=UTC) < PUNCTUAL:
        stored += _of_day(equity.take_snapshots, yesterday)
    for day in equity.days_without_snapshots(first, yesterday):
        stored += _of_day(equity.make_up_snapshots, day)
    for day in summary.days_not_ended(first, yesterday):
        done = _of_day(lambda of: summary.end_day(of) is not None, day)
        ended += done
        if done and day != yesterday:
            log.warning("day_made_up", day=day.isoformat())
    return Counts(stored + ended, stored + ended, {"snapshots": stored, "days": ended})


@shared_task(name="positions.tasks.end_days", bind=True, base=Fenced)
def run_day_ends(self: Task) -> dict[str, Any]:
    """Summarise and end each day of a market that is due, as the stage `day_end`."""
    return run_stage("day_end", day_ends.end_due, task=self)


@shared_task(base=Fenced)
def compare_twins() -> int:
    """Compare live orders with their paper twins; return how many."""
    return twins.compare_orders(passes.TimeBudget(passes.policy().pass_seconds))


@shared_task
def tidy_twins() -> int:
    """Delete comparisons with paper twins that are older than they are kept; return how many."""
    return twins.tidy()


ROLL_UP = "positions.tasks.roll_up_pnl"


@shared_task(name=ROLL_UP)
def roll_up_pnl() -> int:
    """Add the positions that have closed to the parts of the PnL; return how many.

    A pass whose time is used up wakes the next one, so that an install that is upgraded catches up at once.
    """
    wake.started(ROLL_UP)
    budget = passes.TimeBudget(passes.policy().pass_seconds)
    added = roll_up.roll_up(budget)
    if budget.cut:
        wake.wake_task(ROLL_UP)
    return added


@shared_task
def take_snapshots() -> int:
    """Run `snapshot_pass`; return how many snapshots were stored."""
    return snapshot_pass().out
