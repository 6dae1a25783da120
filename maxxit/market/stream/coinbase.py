"""Coinbase's WebSocket: the ticker channel, monitored by heartbeats and sequence numbers.

After a sequence gap or a reconnect the prices are requested once by REST. Silence longer than `silence` seconds means a
dead connection, because heartbeats arrive every second.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from maxxit.core import untrusted
from maxxit.core.errors import Retryable
from maxxit.market.feeds import wire
from maxxit.market.feeds.base import Tick
from maxxit.market.feeds.coinbase import tick_of
from maxxit.market.stream.backoff import delay

log = structlog.get_logger(__name__)

CHANNELS = ("heartbeats", "ticker")


class Refused(Exception):
    """The server answered with an error message."""


EXPECTED = (OSError, WebSocketException, Refused)
"""Errors that end a connection in normal operation."""


@dataclass(frozen=True)
class Frame:
    """One message of the WebSocket."""

    sequence: int | None
    ticks: tuple[Tick, ...]


def read_frame(text: str | bytes, source: str, symbols: Mapping[str, str]) -> Frame:
    """Parse a message. `symbols`: product -> symbol. Raises Refused, or ValueError for a malformed message."""
    try:
        said: dict[str, Any] = untrusted.loads(text, decimals=True)
        if said.get("type") == "error":
            raise Refused(str(said.get("message")))
        number = said.get("sequence_num")
        if not isinstance(number, int | None):
            raise ValueError(f"sequence_num is {number!r}")
        if said.get("channel") not in {"ticker", "ticker_batch"}:
            return Frame(number, ())
        at = said["timestamp"]
        tickers = [one for part in said["events"] for one in part["tickers"]]
        ticks = wire.each(source, tickers, lambda one: _tick(one, source, at, symbols))
        return Frame(number, tuple(tick for tick in ticks if tick))
    except (Retryable, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a message: {str(text)[:80]!r} ({error})") from error


def _tick(said: Mapping[str, Any], source: str, at: Any, symbols: Mapping[str, str]) -> Tick | None:
    """Parse one ticker; None for a product that was not requested."""
    product = said["product_id"]
    if not isinstance(product, str):
        raise ValueError(f"product_id is {product!r}")
    symbol = symbols.get(product)
    if symbol is None:
        return None
    return tick_of(symbol, source, said.get("price"), at, said.get("best_bid"), said.get("best_ask"))


class CoinbaseSocket(threading.Thread):
    """Thread with one connection for all products. `put` receives the ticks, `heal` is called after missed messages."""

    def __init__(
        self,
        name: str,
        url: str,
        ids: Mapping[str, str],
        put: Callable[[Tick], None],
        *,
        heal: Callable[[], None],
        silence: float,
    ) -> None:
        super().__init__(name=f"socket-{name}", daemon=True)
        self.source, self.url, self.put, self.heal, self.silence = name, url, put, heal, silence
        self.symbols = {product: symbol for symbol, product in ids.items()}
        self.stop = threading.Event()
        self.live = False
        self.connects = self.gaps = self.malformed = self.out_of_order = 0
        self.error = ""

    def end(self) -> None:
        """Stop within half a second."""
        self.stop.set()

    def run(self) -> None:
        """Connect, listen and reconnect until `stop` is set."""
        failures = 0
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except Exception as error:  # no error may end this thread
                self.error = f"{type(error).__name__}: {error}"
                if not isinstance(error, EXPECTED):
                    log.exception("socket_failed", feed=self.source)
            self.live = False
            if self.stop.is_set():
                return
            failures = 0 if time.monotonic() - began > 2 * self.silence else failures + 1
            wait = delay(failures)
            log.warning("socket_lost", feed=self.source, error=self.error, again_in=round(wait, 1))
            self.stop.wait(wait)

    def _listen(self) -> None:
        # No client pings: `silence` detects a dead connection, and a pong may be delayed behind a backlog.
        with connect(self.url, open_timeout=10, close_timeout=0.5, ping_interval=None) as socket:
            for channel in CHANNELS:
                asked = {"type": "subscribe", "channel": channel, "product_ids": sorted(self.symbols)}
                socket.send(json.dumps(asked))
            self.connects += 1
            self._hear(socket)

    def _hear(self, socket: ClientConnection) -> None:
        """Receive until the connection ends, falls silent, or `stop` is set. Raises what websockets raises."""
        expected: int | None = None
        heard = time.monotonic()
        while not self.stop.is_set():
            try:
                text = socket.recv(timeout=min(0.5, self.silence))
            except TimeoutError:
                if time.monotonic() - heard > self.silence:
                    raise
                continue
            heard = time.monotonic()
            if not self.live:
                self.live, self.error = True, ""
                self.heal()  # fetch prices missed while disconnected
            try:
                frame = read_frame(text, self.source, self.symbols)
            except ValueError as error:
                self.malformed += 1
                log.warning("message_malformed", feed=self.source, error=str(error))
                continue
            expected = self._in_order(frame, expected)

    def _in_order(self, frame: Frame, expected: int | None) -> int | None:
        """Pass on the ticks of a frame unless it is out of order; return the next expected sequence number."""
        if frame.sequence is None or expected is None or frame.sequence == expected:
            pass
        elif frame.sequence < expected:
            self.out_of_order += 1
            return expected
        else:
            self.gaps += 1
            log.warning("sequence_gap", feed=self.source, expected=expected, got=frame.sequence)
            self.heal()
        for tick in frame.ticks:
            self.put(tick)
        return expected if frame.sequence is None else frame.sequence + 1
