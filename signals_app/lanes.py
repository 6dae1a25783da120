"""Run the network waits of a pass in threads while the pass itself decides, and hand it the results.

One piece of work at a time of each key (an account) is under way. Work that is still waiting when its pass ends keeps
its thread and its key: later passes of this process leave that key alone until it is done, and drop its result.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Generic, TypeVar

from maxxit.core import clock
from maxxit.postgres import threads

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
MOST_THREADS = 256
"""More than the slots of all providers or sources of an installation: these are the limit, not the threads."""
LAST_SECONDS = 10.0
"""How long a pass whose time is used up waits for the work under way."""


class Lanes(Generic[K, R]):
    """Work under way by key, each in a thread with its own database connection."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: dict[K, Future[R]] = {}

    def under_way(self) -> set[K]:
        """Return the keys whose result was not taken yet, those of earlier passes included."""
        return set(self._under_way)

    def start(self, key: K, work: Callable[[], R], *, in_thread: bool) -> None:
        """Start `work` in a thread, or do it now in the caller's thread, which keeps the order of a replay."""
        if in_thread:
            self._pool = self._pool or ThreadPoolExecutor(MOST_THREADS, self._name)
            self._under_way[key] = threads.submit(self._pool, work)
            return
        step: Future[R] = Future()
        try:
            step.set_result(work())
        except Exception as error:  # raised again where the result is taken, as a thread's is
            step.set_exception(error)
        self._under_way[key] = step

    def finished(self, seconds: float = 0) -> list[tuple[K, Future[R]]]:
        """Take the results that are there, in the order of starting; wait up to `seconds` for the first."""
        done = wait(self._under_way.values(), seconds, FIRST_COMPLETED).done
        taken = [(key, step) for key, step in self._under_way.items() if step in done]
        for key, _ in taken:
            del self._under_way[key]
        return taken


class PassTime:
    """The time in which a pass starts work, by `maxxit.core.clock`: a replay's clock stands still, so none is cut."""

    def __init__(self, seconds: float | None) -> None:
        self._end = clock.now() + timedelta(seconds=seconds) if seconds is not None else None

    def left(self) -> bool:
        """Return whether more work may be started."""
        return self._end is None or clock.now() < self._end

    def over(self) -> bool:
        """Return whether the pass shall end without the work that is still under way."""
        return self._end is not None and clock.now() >= self._end + timedelta(seconds=LAST_SECONDS)
