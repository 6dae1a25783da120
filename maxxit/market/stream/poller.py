"""Poll a feed in a separate thread, so that a slow provider does not delay the others."""

import threading
from collections.abc import Callable, Sequence

import structlog

from maxxit.core.errors import MaxxitError
from maxxit.market.feeds.base import PriceFeed, Tick
from maxxit.market.stream.backoff import wait_after

log = structlog.get_logger(__name__)


class Poller(threading.Thread):
    """Thread that polls `feed` every `seconds` while no socket is live (`covered()`), and at once after `ask_now`."""

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
        """Poll at once, after ticks were missed."""
        self._due = True
        self._now.set()

    def end(self) -> None:
        """Stop after the request that is under way."""
        self.stop.set()
        self._now.set()

    def run(self) -> None:
        """Poll until `stop` is set."""
        while not self.stop.is_set():
            wait = self.seconds
            if self._due or not self.covered():
                self._due = False
                wait = self._ask()
            self._now.wait(wait)
            self._now.clear()

    def _ask(self) -> float:
        """Poll once; return the seconds until the next poll."""
        try:
            found = self.feed.quotes(self.symbols)
        except Exception as error:  # even a bug of an adapter must not end this thread
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
