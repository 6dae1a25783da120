"""Wake tasks: an event starts the next stage at once instead of at its next scheduled sweep.

A wake is only a hint and may be lost: the sweep finds the row anyway. Wakes of one task are coalesced: while one is
queued, no second is sent; the task clears the mark when it starts (`started`), before it reads its rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import structlog
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.db import transaction

log = structlog.get_logger(__name__)

MARK_SECONDS = 5
"""How long a lost wake can suppress the next one."""

_collector: ContextVar[set[str] | None] = ContextVar("woken_tasks", default=None)


@contextmanager
def collected() -> Iterator[set[str]]:
    """Collect the names of woken tasks in a set instead of sending messages (for a replay, which runs them)."""
    woken: set[str] = set()
    token = _collector.set(woken)
    try:
        yield woken
    finally:
        _collector.reset(token)


def after_commit(event: str) -> None:
    """Wake the tasks that `settings.WAKES` lists for `event`, once the transaction has committed."""
    for task in settings.WAKES.get(event, ()):
        transaction.on_commit(partial(wake_task, task))


def wake_task(task: str, shard: int = 0) -> None:
    """Wake `task` now, for one shard of the accounts; inside `collected` only its name is collected."""
    woken = _collector.get()
    if woken is None:
        send(task, shard)
    else:
        woken.add(task)


def send(task: str, shard: int = 0) -> None:
    """Send `task` unless one is queued already. Never raises: the sweep makes up for a lost wake."""
    try:
        if cache.add(_mark(task, shard), 1, timeout=MARK_SECONDS):
            # Without ignore_result Celery subscribes to the result first: two round trips, 20 s when Redis goes down.
            arguments = {"shard": shard} if shard else {}
            current_app.send_task(task, kwargs=arguments, retry=False, ignore_result=True)
    except Exception as error:  # the broker is down, which must not stop the caller
        log.warning("wake_lost", task=task, error=str(error))


def _mark(task: str, shard: int) -> str:
    return f"wake:{task}:{shard}" if shard else f"wake:{task}"


def started(task: str, shard: int = 0) -> None:
    """Clear the mark of a task that has started: events from now on wake it again."""
    try:
        cache.delete(_mark(task, shard))
    except Exception as error:
        log.warning("wake_mark_kept", task=task, error=str(error))
