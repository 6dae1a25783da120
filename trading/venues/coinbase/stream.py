"""Coinbase's user stream: one WebSocket for each account, which says when one of its orders changed.

A message is a hint: fills are always read by `find`. After a connect, and where a sequence number is missing, all of
the account is polled. Heartbeats arrive every second, so silence is a dead connection.
"""

import json
import time
from collections.abc import Callable

from websockets.sync.client import ClientConnection, connect

from trading.venues.account_stream import LISTENED, AccountStream, NotAuthorized
from trading.venues.coinbase.token import Keys

CHANNELS = ("heartbeats", "user")
"""One subscription each, signed anew; Coinbase wants the first within five seconds."""
SILENCE_SECONDS = 10.0


class UserStream(AccountStream):
    """The stream of one account.

    `changed` is called for each order that changed, after each connect, and where messages may have been missed.
    """

    def __init__(self, account: str, url: str, keys: Keys, *, changed: Callable[[], None]) -> None:
        super().__init__("coinbase", account, url)
        self.keys, self.changed = keys, changed
        self.gaps = 0

    def _listen(self) -> None:
        with connect(self.url, open_timeout=10, close_timeout=0.5, ping_interval=None) as socket:
            for channel in CHANNELS:
                socket.send(json.dumps({"type": "subscribe", "channel": channel, "jwt": self.keys.token()}))
            self._hear(socket)

    def _hear(self, socket: ClientConnection) -> None:
        """Receive until the connection ends, falls silent, or `stop` is set. Raises what websockets raises."""
        expected: int | None = None
        subscribed = False
        heard_at = time.monotonic()
        while not self.stop.is_set():
            try:
                message = self._read(socket.recv(timeout=LISTENED))
            except TimeoutError:
                if time.monotonic() - heard_at > SILENCE_SECONDS:
                    raise
                continue
            heard_at = time.monotonic()
            if message.get("type") == "error":
                raise NotAuthorized(f"Coinbase refuses the subscription: {message.get('message')}")
            is_user = message.get("channel") == "user"
            number = message.get("sequence_num")
            missed = isinstance(number, int) and expected is not None and number > expected
            self.gaps += missed
            if is_user and not subscribed:
                subscribed = True
                self._connected()
            if is_user or missed:
                self.changed()
            if isinstance(number, int):
                expected = number + 1
