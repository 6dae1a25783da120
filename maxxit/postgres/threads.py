"""Work in threads that use the database."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

R = TypeVar("R")


class Pool:
    """Threads that keep their database connections between two pieces of work.

    So a thread connects once and plans its statements once. After `max_age` or an error it connects anew.
    """

    def __init__(self, size: int, name: str, max_age: int | None = None) -> None:
        """Make a pool without threads yet.

        Args:
            size: threads at most.
            name: prefix of their names.
            max_age: seconds that a connection is kept; None: `CONN_MAX_AGE` of the process.
        """
        self.size, self._max_age = size, max_age
        self._executor = ThreadPoolExecutor(size, name)
        self._connections: set[BaseDatabaseWrapper] = set()

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Run `work` in a thread that sees the caller's context."""
        return self._executor.submit(copy_context().run, self._with_kept_connection, work)

    def close(self) -> None:
        """Wait for the work under way, end the threads and close their connections."""
        self._executor.shutdown()
        while self._connections:
            self._connections.pop().close()

    def _with_kept_connection(self, work: Callable[[], R]) -> R:
        own = connections[DEFAULT_DB_ALIAS]
        if own not in self._connections:
            own.inc_thread_sharing()  # so that `close` may close it
            if self._max_age is not None:
                own.settings_dict = own.settings_dict | {"CONN_MAX_AGE": self._max_age}
            self._connections.add(own)
        own.close_if_unusable_or_obsolete()
        try:
            return work()
        finally:
            own.close_if_unusable_or_obsolete()


def submit(pool: ThreadPoolExecutor, work: Callable[[], R]) -> Future[R]:
    """Run `work` in a thread of `pool`, and close the database connections that it opened there.

    The thread sees the caller's context: recorded clock, correlation id, collected wakes.
    """
    return pool.submit(copy_context().run, _with_own_connection, work)


def _with_own_connection(work: Callable[[], R]) -> R:
    try:
        return work()
    finally:
        for one in connections.all(initialized_only=True):
            one.close()
