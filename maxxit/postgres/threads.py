"""Work in threads that use the database."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from django.db import connection

R = TypeVar("R")


def submit(pool: ThreadPoolExecutor, work: Callable[[], R]) -> Future[R]:
    """Run `work` in a thread of `pool`, and close the database connection that it opened there.

    The thread sees the caller's context: recorded clock, correlation id, collected wakes.
    """
    return pool.submit(copy_context().run, _with_own_connection, work)


def _with_own_connection(work: Callable[[], R]) -> R:
    try:
        return work()
    finally:
        connection.close()
