"""Alpaca's trade stream: one WebSocket for each account, which names the orders that changed.

A message is a hint: fills are always read by `find`. Messages are not repeated after a reconnect, so everything of the
account is polled then. Frames may be binary.
"""

import json
from collections.abc import Callable

from websockets.sync.client import ClientConnection, connect

from trading.venues.account_stream import LISTENED, AccountStream, NotAuthorized
from trading.venues.alpaca.client import Keys

PINGS = 20
"""Seconds between pings, and for which a pong may take: they find a dead connection."""


class TradeStream(AccountStream):
    """The stream of one account.

    Args:
        heard: called with the client order id of an order that changed.
        connected: called after each connect, when changes may have been missed.
    """

    def __init__(
        self,
        account: str,
        url: str,
        keys: Keys,
        *,
        heard: Callable[[str], None],
        connected: Callable[[], None],
    ) -> None:
        super().__init__("alpaca", account, url)
        self.keys, self.heard, self.connected = keys, heard, connected

    def _listen(self) -> None:
        with connect(
            self.url, open_timeout=10, close_timeout=0.5, ping_interval=PINGS, ping_timeout=PINGS
        ) as socket:
            keys = {"key_id": self.keys.key_id, "secret_key": self.keys.secret}
            socket.send(json.dumps({"action": "authenticate", "data": keys}))
            answer = self._read(socket.recv(timeout=10))
            if _data(answer).get("status") != "authorized":
                raise NotAuthorized("Alpaca does not authorize these keys")
            socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            self._connected()
            self.connected()
            self._hear(socket)

    def _hear(self, socket: ClientConnection) -> None:
        """Receive until the connection ends or `stop` is set. Raises what websockets raises."""
        while not self.stop.is_set():
            try:
                message = self._read(socket.recv(timeout=LISTENED))
            except TimeoutError:
                continue
            order = _data(message).get("order")
            if message.get("stream") == "trade_updates" and isinstance(order, dict):
                client_order_id = order.get("client_order_id")
                if isinstance(client_order_id, str):
                    self.heard(client_order_id)


def _data(message: dict[str, object]) -> dict[str, object]:
    data = message.get("data")
    return data if isinstance(data, dict) else {}
