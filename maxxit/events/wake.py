"""An event wakes the stage that waits for it, so that nothing waits for the next sweep.

A wake is a hint and may be lost: the sweep finds the row anyway. Wakes of one task coalesce: while one is on
its way, no second is sent; the task clears the mark when it starts (`started`), before it reads its rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
from celery import current_app
from django.conf import settings
from django.core.cache import cache
from django.db import transaction

log = structlog.get_logger(__name__)

MARK_SECONDS = 5
"""How long a lost wake can hold back the next one."""

_quiet: ContextVar[bool] = ContextVar("wakes_quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside this block events wake nobody: a replay calls its steps itself."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def after_commit(event: str) -> None:
    """Wake the tasks that `settings.WAKES` lists for `event`, once the transaction has committed."""
    if _quiet.get():
        return
    for task in settings.WAKES.get(event, ()):
        transaction.on_commit(lambda task=task: send(task))


def send(task: str) -> None:
    """Send `task` now unless one is already on its way. Never raises: a sweep makes up for a lost wake."""
    try:
        if cache.add(f"wake:{task}", 1, timeout=MARK_SECONDS):
            current_app.send_task(task, retry=False)
    except Exception as error:  # the broker is down: nothing may depend on it
        log.warning("wake_lost", task=task, error=str(error))


def started(task: str) -> None:
    """The task has begun: what happens from now on may wake it again."""
    try:
        cache.delete(f"wake:{task}")
    except Exception as error:
        log.warning("wake_mark_kept", task=task, error=str(error))
