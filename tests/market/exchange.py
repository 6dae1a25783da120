"""A fake of Coinbase's WebSocket on loopback: the documented messages and any malformed ones."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


def ticker(sequence: int, product: str, price: str, at: datetime, *, bid: str = "", ask: str = "") -> str:
    """A message of the ticker channel, with fields as documented."""
    one = {"type": "ticker", "product_id": product, "price": price, "volume_24_h": "16038.28"}
    one |= {
        "best_bid": bid or price,
        "best_ask": ask or price,
        "best_bid_quantity": "1",
        "best_ask_quantity": "2",
    }
    return message("ticker", sequence, at, [{"type": "update", "tickers": [one]}])


def heartbeat(sequence: int, at: datetime) -> str:
    """A message of the heartbeats channel."""
    return message(
        "heartbeats", sequence, at, [{"current_time": f"{at}", "heartbeat_counter": str(sequence)}]
    )


def message(channel: str, sequence: int, at: datetime, events: list[dict[str, Any]]) -> str:
    """The envelope: nanoseconds in the time, as the real one has them."""
    stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
    return json.dumps(
        {"channel": channel, "client_id": "", "timestamp": stamp, "sequence_num": sequence, "events": events}
    )


class Exchange:
    """Remembers who is connected and what they subscribed to."""

    def __init__(self) -> None:
        self.port = 0
        self.subscribed: list[dict[str, Any]] = []
        self.connections: list[ServerConnection] = []
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def handle(self, socket: ServerConnection) -> None:
        self.accepted += 1
        self.connections.append(socket)
        try:
            for text in socket:
                self.subscribed.append(json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(socket)

    def send(self, text: str) -> None:
        for socket in list(self.connections):
            socket.send(text)

    def cut(self) -> None:
        """Every connection ends without a goodbye."""
        for socket in list(self.connections):
            with suppress(OSError):  # it went by itself
                socket.socket.shutdown(2)

    def wait_for(self, connections: int, subscriptions: int = 2, seconds: float = 5) -> None:
        end = time.monotonic() + seconds
        while self.accepted < connections or len(self.subscribed) < connections * subscriptions:
            assert time.monotonic() < end, (self.accepted, self.subscribed)
            time.sleep(0.01)


@contextmanager
def exchange() -> Iterator[Exchange]:
    """One exchange for a test."""
    one = Exchange()
    with serve(one.handle, "127.0.0.1", 0, ping_interval=None) as server:
        one.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield one
        one.cut()
        server.shutdown()
        thread.join()
