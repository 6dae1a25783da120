"""A thread that listens to a venue's WebSocket for one account, and connects again while its keys are taken."""

import threading
import time
from abc import abstractmethod

import structlog
from websockets.exceptions import WebSocketException

from maxxit.core import untrusted
from maxxit.core.errors import Retryable
from maxxit.market.stream.backoff import delay

log = structlog.get_logger(__name__)

STEADY_SECONDS = 60
"""A connection that lasted so long was no failure."""
LISTENED = 0.5
"""Seconds after which a quiet connection looks whether it shall end."""


class NotAuthorized(Exception):
    """The venue refuses the keys."""


EXPECTED = (OSError, WebSocketException, NotAuthorized)
"""Errors that end a connection in normal operation."""


class AccountStream(threading.Thread):
    """Thread that listens for one account; it uses no database. What it hears is a hint: `find` reads the fills."""

    def __init__(self, venue: str, account: str, url: str) -> None:
        super().__init__(name=f"{venue}-{account}", daemon=True)
        self.venue, self.account, self.url = venue, account, url
        self.stop = threading.Event()
        self.connects = self.malformed = 0
        self.error = ""

    @abstractmethod
    def _listen(self) -> None:
        """Connect, and listen until the connection ends or `stop` is set.

        Call `_connected` once the venue takes the keys. Raises NotAuthorized where it refuses them.
        """

    def end(self) -> None:
        """Stop within half a second."""
        self.stop.set()

    def run(self) -> None:
        """Connect, listen and reconnect until `stop` is set or the keys are refused."""
        failures = 0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except Exception as error:  # no error may end this thread
                self.error = f"{type(error).__name__}: {error}"
                if not isinstance(error, EXPECTED):
                    log.exception("order_stream_failed", venue=self.venue, account=self.account)
                if isinstance(error, NotAuthorized):
                    log.warning(
                        "order_stream_refused", venue=self.venue, account=self.account, error=self.error
                    )
                    return
            if self.stop.is_set():
                return
            failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            wait = delay(failures)
            log.warning(
                "order_stream_lost", venue=self.venue, account=self.account, error=self.error,
                again_in=round(wait, 1),
            )  # fmt: skip
            self.stop.wait(wait)

    def _connected(self) -> None:
        self.connects += 1
        self.error = ""

    def _read(self, frame: str | bytes) -> dict[str, object]:
        """Parse a frame; one that is no message counts as empty."""
        try:
            message = untrusted.loads(frame)
        except (Retryable, ValueError):
            message = None
        if isinstance(message, dict):
            return message
        self.malformed += 1
        log.warning("message_malformed", venue=self.venue, account=self.account)
        return {}
