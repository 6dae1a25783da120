"""A feed that is asked again and again, in a thread of its own: a slow provider delays nobody else."""

import threading
from collections.abc import Callable, Sequence

import structlog

from maxxit.core.errors import MaxxitError
from maxxit.market.feeds.base import PriceFeed, Tick
from maxxit.market.stream.backoff import wait_after

log = structlog.get_logger(__name__)


class Poller(threading.Thread):
    """Asks `feed` every `seconds`, or at once after `ask_now`. While `covered()` its ticks come by other means."""

    def __init__(
        self,
        feed: PriceFeed,
        symbols: Sequence[str],
        seconds: float,
        put: Callable[[Tick], None],
        covered: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(name=f"poll-{feed.name}", daemon=True)
        self.feed, self.symbols, self.seconds, self.put, self.covered = feed, symbols, seconds, put, covered
        self.stop = threading.Event()
        self.asked = self.failures = 0
        self.error = ""
        self._now = threading.Event()
        self._due = True

    def ask_now(self) -> None:
        """Something was missed: do not wait for the next turn."""
        self._due = True
        self._now.set()

    def end(self) -> None:
        """Stop after the request that is under way."""
        self.stop.set()
        self._now.set()

    def run(self) -> None:
        """Until told to stop."""
        while not self.stop.is_set():
            wait = self.seconds
            if self._due or not self.covered():
                self._due = False
                wait = self._ask()
            self._now.wait(wait)
            self._now.clear()

    def _ask(self) -> float:
        """Ask once; returns the seconds until the next time."""
        try:
            found = self.feed.quotes(self.symbols)
        except Exception as error:  # also a bug in one adapter: it must not silence the feed for ever
            self.error = str(error)
            wait = max(self.seconds, wait_after(error, self.failures))
            self.failures += 1
            log.warning(
                "feed_silent",
                feed=self.feed.name,
                error=self.error,
                again_in=round(wait, 1),
                exc_info=not isinstance(error, MaxxitError),
            )
            return wait
        self.asked, self.failures, self.error = self.asked + 1, 0, ""
        for tick in found.values():
            self.put(tick)
        return self.seconds
