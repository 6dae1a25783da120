"""An event wakes the stage that waits for it, so that nothing waits for the next sweep.

A wake is a hint and may be lost: the sweep finds the row anyway. Wakes of one task coalesce: while one is on
its way, no second is sent; the task clears the mark when it starts (`started`), before it reads its rows.
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
"""How long a lost wake can hold back the next one."""

_collector: ContextVar[set[str] | None] = ContextVar("woken_tasks", default=None)


@contextmanager
def collected() -> Iterator[set[str]]:
    """Inside this block no message is sent: the names of the woken tasks gather in the set. A replay runs them."""
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


def wake_task(task: str) -> None:
    """Wake `task` now; inside `collected` its name is kept instead of a message sent."""
    woken = _collector.get()
    if woken is None:
        send(task)
    else:
        woken.add(task)


def send(task: str) -> None:
    """Send `task` now unless one is already on its way. Never raises: a sweep makes up for a lost wake."""
    try:
        if cache.add(f"wake:{task}", 1, timeout=MARK_SECONDS):
            # Otherwise Celery subscribes to the result first: two trips, and 20 s where Redis is just going.
            current_app.send_task(task, retry=False, ignore_result=True)
    except Exception as error:  # the broker is down: nothing may depend on it
        log.warning("wake_lost", task=task, error=str(error))


def started(task: str) -> None:
    """The task has begun: what happens from now on may wake it again."""
    try:
        cache.delete(f"wake:{task}")
    except Exception as error:
        log.warning("wake_mark_kept", task=task, error=str(error))
