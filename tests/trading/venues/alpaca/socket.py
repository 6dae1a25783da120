"""The fake broker's trade stream: authentication, `trade_updates` as binary frames, and cut connections."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.trading.venues.alpaca.broker import Account, Broker
from tests.trading.venues.alpaca.refusals import Row


class Socket:
    """A running stream. `authorize` and `listen` are what clients sent."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.url = ""
        self.connections: dict[ServerConnection, str] = {}
        """Those that listen -> key id."""
        self.received: list[Row] = []
        self.silent = False
        """Updates are lost."""
        self.listening = threading.Semaphore(0)
        """Released with each connection that listens."""

    def handle(self, socket: ServerConnection) -> None:
        """Serve one client."""
        with suppress(ConnectionClosed):
            for frame in socket:
                message = json.loads(frame)
                self.received.append(message)
                if message["action"] == "authenticate":
                    account = self.broker.accounts.get(message["data"]["key_id"])
                    known = account is not None and account.secret == message["data"]["secret_key"]
                    status = "authorized" if known else "unauthorized"
                    self._send(socket, "authorization", {"status": status, "action": "authenticate"})
                    if account is None or not known:
                        return
                    key_id = account.key_id
                elif message["action"] == "listen":
                    self.connections[socket] = key_id
                    self._send(socket, "listening", {"streams": message["data"]["streams"]})
                    self.listening.release()
        self.connections.pop(socket, None)

    def update(self, account: Account, data: Row) -> None:
        """Send a trade update to the account's subscribers."""
        for socket, key_id in list(self.connections.items()):
            if key_id == account.key_id and not self.silent:
                with suppress(ConnectionClosed):
                    self._send(socket, "trade_updates", data)

    def send_raw(self, frame: str | bytes) -> None:
        """Send a frame as it is to every listener."""
        for socket in list(self.connections):
            socket.send(frame)

    def cut(self) -> None:
        """End every connection without a word."""
        for socket in list(self.connections):
            self.connections.pop(socket, None)
            with suppress(OSError):  # the client ended it
                socket.socket.shutdown(SHUT_RDWR)  # to close it would wake no thread that waits for it

    def _send(self, socket: ServerConnection, stream: str, data: Row) -> None:
        socket.send(json.dumps({"stream": stream, "data": data}).encode())


@contextmanager
def trade_stream(broker: Broker) -> Iterator[Socket]:
    """A running stream of the broker, on a port of the kernel's choice."""
    fake = Socket(broker)
    broker.updates.append(fake.update)
    with serve(fake.handle, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.socket.getsockname()[1]
        fake.url = f"ws://127.0.0.1:{port}/stream"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.cut()
            server.shutdown()
            thread.join(5)
            with suppress(ValueError):
                broker.updates.remove(fake.update)
