"""Celery's side of positions: what happens is in `book` and `watch`."""

from datetime import timedelta
from functools import cache
from typing import Any

from celery import Task, shared_task

from maxxit.core import clock
from maxxit.pipeline.release import Fenced
from maxxit.pipeline.runs import Counts, run_stage
from positions import book, flatten, guard, performance, withdrawals
from positions.exits import sweep
from trading import closing, passes


def exit_pass(lanes: closing.Lanes | None = None) -> Counts:
    """One pass of the exits: claim what is due, place its closing orders at once, settle those in flight.

    Without `lanes` one order goes after the other, in this thread.
    """
    done = closing.run(sweep.sweep, lanes or closing.Lanes(0))
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
        },
    )


def book_pass() -> Counts:
    """One pass of the fifth stage: fills into positions, and what those earned that are over."""
    opened, closed = book.book()
    return Counts(opened + closed, opened + closed, {"opened": opened, "closed": closed})


def monitor_pass() -> Counts:
    """All of the fifth stage, for one process that does everything: `book_pass`, then the exits that are due.

    The workers divide it: the exits are the exits worker's (`sweep_exits`).
    """
    booked = book_pass()
    leaving = sweep.sweep()
    moved = booked.out + leaving
    return Counts(moved, moved, booked.detail | {"leaving": leaving})


@cache
def _lanes() -> closing.Lanes:
    """This worker's threads; an account that is still busy after a pass stays so for the next."""
    return closing.Lanes(passes.policy().exits.lanes)


@shared_task(bind=True, base=Fenced)
def sweep_exits(self: Task) -> dict[str, Any]:
    """Sweep: every exit that is due, every closing order to its venue and to its end."""
    return run_stage("exits", lambda: exit_pass(_lanes()), task=self)


@shared_task(name="positions.tasks.monitor", bind=True)
def run_monitor(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: every fill that is not booked, every position that is over."""
    return run_stage("monitor", book_pass, run_id=run_id, task=self)


@shared_task
def watch_risk() -> list[str]:
    """Pull the kill switch where losses, drawdown, prices, drift or blocked orders call for it.

    Where that look at the venues found that a Safe's owner took tokens of ours out himself, their positions end.
    """
    pulled = guard.watch()
    withdrawals.close_withdrawn_positions()
    return pulled


def snapshot_pass() -> Counts:
    """The figures of the UTC day that has just ended."""
    withdrawals = performance.take_snapshots(clock.now().date() - timedelta(days=1))
    return Counts(withdrawals, withdrawals)


@shared_task
def take_snapshots() -> int:
    """Each deployment's figures at the end of the day, once."""
    return snapshot_pass().out
