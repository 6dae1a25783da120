"""Celery's side of positions: what happens is in `book` and `watch`."""

from datetime import timedelta
from typing import Any

from celery import Task, shared_task

from maxxit.core import clock
from maxxit.pipeline.runs import Counts, run_stage
from positions import book, guard, performance, taken, watch


def monitor_pass() -> Counts:
    """One pass of the fifth stage: fills into positions, exits, and what they earned."""
    opened, closed = book.book()
    leaving = watch.sweep()
    moved = opened + closed + leaving
    return Counts(moved, moved, {"opened": opened, "leaving": leaving, "closed": closed})


@shared_task(bind=True)
def monitor(self: Task, run_id: int | None = None) -> dict[str, Any]:
    """Sweep: every exit that is due, every fill that is not booked."""
    return run_stage("monitor", monitor_pass, run_id=run_id, task=self)


@shared_task
def watch_risk() -> list[str]:
    """Pull the kill switch where losses, drawdown, prices, drift or blocked orders call for it.

    Where that look at the venues found that a Safe's owner took tokens of ours out himself, their positions end.
    """
    pulled = guard.watch()
    taken.let_go()
    return pulled


def snapshot_pass() -> Counts:
    """The figures of the UTC day that has just ended."""
    taken = performance.take_snapshots(clock.now().date() - timedelta(days=1))
    return Counts(taken, taken)


@shared_task
def take_snapshots() -> int:
    """Each deployment's figures at the end of the day, once."""
    return snapshot_pass().out
