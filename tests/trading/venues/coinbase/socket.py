"""The fake exchange's user stream: signed subscriptions, snapshot and updates, heartbeats, gaps and cut connections.

Its clock is the machine's: a listener is a thread, which no recorded clock reaches.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from socket import SHUT_RDWR

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.trading.venues.coinbase.exchange import Exchange, Portfolio, Row
from tests.trading.venues.coinbase.tokens import is_valid, key_name


class Socket:
    """A running stream. `received` is what clients sent."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.url = ""
        self.connections: dict[ServerConnection, str] = {}
        """Those that are subscribed to orders -> name of the key."""
        self.numbers: dict[ServerConnection, int] = {}
        self.received: list[Row] = []
        self.listening = threading.Semaphore(0)
        """Released with each subscription to orders."""

    def handle(self, socket: ServerConnection) -> None:
        """Serve one client."""
        with suppress(ConnectionClosed):
            for frame in socket:
                message = json.loads(frame)
                self.received.append(message)
                portfolio = self.exchange.portfolios.get(key_name(message.get("jwt", "")))
                if portfolio is None or not is_valid(message["jwt"], portfolio.issued, "", datetime.now(UTC)):
                    socket.send(json.dumps({"type": "error", "message": "authentication failure"}))
                    return
                if message["channel"] == "heartbeats":
                    self.send(
                        socket,
                        "heartbeats",
                        {"current_time": self.exchange.stamp(), "heartbeat_counter": "0"},
                    )
                else:
                    orders = [_shown(row) for row in portfolio.orders.values()]
                    self.connections[socket] = portfolio.key_name
                    self.send(socket, "user", {"type": "snapshot", "orders": orders})
                    self.listening.release()
        self.connections.pop(socket, None)

    def update(self, portfolio: Portfolio, row: Row) -> None:
        """Send an order that changed to every client that is subscribed with its key."""
        for socket, name in list(self.connections.items()):
            if name == portfolio.key_name:
                with suppress(ConnectionClosed):
                    self.send(socket, "user", {"type": "update", "orders": [_shown(row)]})

    def send(self, socket: ServerConnection, channel: str, event: Row, *, skip: int = 0) -> None:
        """Send a message; `skip` numbers are left out before it."""
        number = self.numbers.get(socket, 0) + skip
        self.numbers[socket] = number + 1
        socket.send(
            json.dumps(
                {
                    "channel": channel,
                    "client_id": "",
                    "timestamp": self.exchange.stamp(),
                    "sequence_num": number,
                    "events": [event],
                }
            )
        )

    def skip(self) -> None:
        """Send every client a heartbeat after a message that was lost."""
        for socket in list(self.connections):
            self.send(socket, "heartbeats", {"heartbeat_counter": "9"}, skip=1)

    def send_raw(self, frame: str | bytes) -> None:
        """Send a frame as it is to every client."""
        for socket in list(self.connections):
            socket.send(frame)

    def cut(self) -> None:
        """End every connection without a word."""
        for socket in list(self.connections):
            self.connections.pop(socket, None)
            with suppress(OSError):  # the client ended it
                socket.socket.shutdown(SHUT_RDWR)  # to close it would wake no thread that waits for it


def _shown(row: Row) -> Row:
    return {
        "avg_price": row["average_filled_price"],
        "client_order_id": row["client_order_id"],
        "completion_percentage": row["completion_percentage"],
        "cumulative_quantity": row["filled_size"],
        "leaves_quantity": "0",
        "number_of_fills": row["number_of_fills"],
        "order_id": row["order_id"],
        "order_side": row["side"],
        "product_id": row["product_id"],
        "status": row["status"],
        "total_fees": row["total_fees"],
    }


@contextmanager
def user_stream(exchange: Exchange) -> Iterator[Socket]:
    """A running stream of the exchange, on a port of the kernel's choice."""
    fake = Socket(exchange)
    exchange.updates.append(fake.update)
    with serve(fake.handle, "127.0.0.1", 0, ping_interval=None) as server:
        fake.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.cut()
            server.shutdown()
            thread.join(5)
            with suppress(ValueError):
                exchange.updates.remove(fake.update)
