"""The fake broker behind HTTP on loopback, with faults: what Alpaca's paper API answers to REST requests."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.trading.venues.alpaca.broker import Account, Broker
from tests.trading.venues.alpaca.refusals import Refused, Row

MAINTENANCE = b"<!DOCTYPE html><html><body>We are down for maintenance.</body></html>"
SLOW_SECONDS = 0.3


@dataclass
class Recorded:
    """One request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: str
    key_id: str

    @property
    def line(self) -> str:
        """Method and path; ids as {id}."""
        parts = [
            "{id}" if len(part) == 36 and part.count("-") == 4 else part for part in self.path.split("/")
        ]
        return f"{self.method} {'/'.join(parts)}"


@dataclass
class Fault:
    """How the next matching request goes wrong.

    Names: lost (taken, no answer) · unsent (not taken, no answer) · slow (taken, answered after SLOW_SECONDS) · limited
    (429) · broken (500, not taken) · broken_after (500, taken) · maintenance (503 with HTML) · page (200 with HTML) ·
    gone (404 with HTML) · moved (301) · refused (422, not taken) · no_power (403, not taken).
    """

    name: str
    method: str = ""
    path: str = ""

    def fits(self, method: str, path: str) -> bool:
        """Return whether it concerns this request."""
        return self.method in ("", method) and path.startswith(self.path)


@dataclass
class Server:
    """A running fake."""

    broker: Broker = field(default_factory=Broker)
    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[Recorded] = field(default_factory=list)
    limit: int = 200
    """Requests a minute of one account."""
    used: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Forget everything."""
        self.broker.reset()
        self.faults.clear()
        self.requests.clear()
        self.used.clear()
        self.limit = 200

    def misbehaves(self, name: str, method: str = "", path: str = "", times: int = 1) -> None:
        """Let the next requests that match go wrong."""
        self.faults.extend([Fault(name, method, path)] * times)

    def fault_of(self, method: str, path: str) -> str:
        """Take the next fault of a request; empty for none."""
        with self.lock:
            for fault in self.faults:
                if fault.fits(method, path):
                    self.faults.remove(fault)
                    return fault.name
        return ""

    def lines(self) -> list[str]:
        """Return method and path of every request so far."""
        return [request.line for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    """Routes a request to the broker."""

    fake: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet an answer
    disable_nagle_algorithm = True

    def handle_one(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        key_id = self.headers.get("apca-api-key-id", "")
        self.fake.requests.append(Recorded(self.command, path, query, raw, key_id))
        fault = self.fake.fault_of(self.command, path)
        if before := BEFORE.get(fault):
            return before(self)
        try:
            status, answer = self.answer(path, query, raw, key_id)
        except Refused as refusal:
            status, answer = refusal.status, refusal.body
        if fault == "lost":
            return self.hang_up()
        if fault == "broken_after":
            return self.send(500, b'{"code":50010000,"message":"internal server error occurred"}')
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        body = b"" if answer is None else json.dumps(answer).encode()
        return self.send(status, body)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_one

    def answer(self, path: str, query: Row, raw: str, key_id: str) -> tuple[int, Any]:
        """Return status and body."""
        broker = self.fake.broker
        account = broker.accounts.get(key_id)
        if account is None or account.secret != self.headers.get("apca-api-secret-key"):
            raise Refused(401, 40110000, "request is not authorized")
        with self.fake.lock:
            self.fake.used[key_id] = self.fake.used.get(key_id, 0) + 1
            if self.fake.used[key_id] > self.fake.limit:
                raise Refused(429, 42910000, "rate limit exceeded")
        assert path.startswith("/v2/")
        parts = path.removeprefix("/v2/").split("/")
        body: Row = json.loads(raw) if raw else {}
        if parts[0] in ("orders", "orders:by_client_order_id"):
            return _orders(broker, account, self.command, parts, query, body)
        if parts[0] == "positions":
            return _positions(broker, account, self.command, parts, query)
        return 200, _reads(broker, account, parts, query)

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        used = self.fake.used.get(self.headers.get("apca-api-key-id", ""), 0)
        limits = {
            "x-ratelimit-limit": str(self.fake.limit),
            "x-ratelimit-remaining": str(max(self.fake.limit - used, 0)),
            "x-ratelimit-reset": str(int(self.fake.broker.now().timestamp()) + 30),
        }
        self.send_response(status)
        for name, value in {"content-type": kind, **limits, **headers}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True

    def limited(self) -> None:
        self.send(429, b'{"code":42910000,"message":"rate limit exceeded"}')

    def broken(self) -> None:
        self.send(500, b'{"code":50010000,"message":"internal server error occurred"}')

    def maintenance(self) -> None:
        self.send(503, MAINTENANCE, "text/html")

    def page(self) -> None:
        self.send(200, MAINTENANCE, "text/html")

    def moved(self) -> None:
        self.send(301, b"", location="https://elsewhere.example/v2/orders")

    def refused(self) -> None:
        self.send(422, b'{"code":42210000,"message":"invalid order type for crypto order"}')

    def no_power(self) -> None:
        self.send(403, b'{"code":40310000,"message":"insufficient buying power"}')

    def gone(self) -> None:
        self.send(404, MAINTENANCE, "text/html")

    def log_message(self, format: str, *args: Any) -> None:
        return


BEFORE = {
    "unsent": Handler.hang_up,
    "limited": Handler.limited,
    "broken": Handler.broken,
    "maintenance": Handler.maintenance,
    "page": Handler.page,
    "moved": Handler.moved,
    "refused": Handler.refused,
    "gone": Handler.gone,
    "no_power": Handler.no_power,
}
"""Faults whose request takes no effect."""


def _public(row: Row) -> Row:
    """Return an order as the API shows it."""
    shown = {name: value for name, value in row.items() if name != "parent"}
    if row["legs"]:
        shown["legs"] = [_public(leg) for leg in row["legs"]]
    return shown


def _orders(
    broker: Broker, account: Account, method: str, parts: list[str], query: Row, body: Row
) -> tuple[int, Any]:
    if parts[0] == "orders:by_client_order_id":
        return 200, _public(broker.find(account, client_order_id=query["client_order_id"]))
    if len(parts) == 1:
        if method == "POST":
            return 200, _public(broker.submit(account, body))
        if method == "DELETE":
            live = broker.orders(account, {"status": "open", "limit": "500"})
            for row in live:
                broker.cancel(account, row["id"])
            return 207, [{"id": row["id"], "status": 200, "body": _public(row)} for row in live]
        return 200, [_public(row) for row in broker.orders(account, query)]
    if method == "PATCH":
        return 200, _public(broker.replace(account, parts[1], body))
    if method == "DELETE":
        broker.cancel(account, parts[1])
        return 204, None
    return 200, _public(broker.find(account, id=parts[1]))


def _positions(
    broker: Broker, account: Account, method: str, parts: list[str], query: Row
) -> tuple[int, Any]:
    rows = broker.positions(account)
    if len(parts) == 1:
        if method == "DELETE":
            closed = [(row["symbol"], broker.close(account, row["symbol"], {})) for row in rows]
            return 207, [{"symbol": name, "status": 200, "body": _public(row)} for name, row in closed]
        return 200, rows
    symbol = parts[1].replace("/", "")
    if method == "DELETE":
        return 200, _public(broker.close(account, symbol, query))
    held = [row for row in rows if symbol in (row["symbol"], row["asset_id"])]
    if not held:
        raise Refused(404, 40410000, "position does not exist")
    return 200, held[0]


def _reads(broker: Broker, account: Account, parts: list[str], query: Row) -> Any:
    match parts:
        case ["account"]:
            return broker.account_answer(account)
        case ["account", "configurations"]:
            return broker.configurations(account)
        case ["account", "activities", kinds]:
            return broker.activity_page(account, kinds, query)
        case ["account", "activities"]:
            return broker.activity_page(account, query.get("activity_types", ""), query)
        case ["clock"]:
            return broker.clock()
        case ["calendar"]:
            return broker.calendar(query.get("start", ""), query.get("end", ""))
        case ["assets", *symbol]:
            return _assets(broker, "/".join(symbol), query.get("asset_class", ""))
    raise Refused(404, 40410000, "endpoint not found")


def _assets(broker: Broker, wanted: str, kind: str) -> Any:
    if not wanted:
        return [row for row in broker.assets.values() if kind in ("", row["class"])]
    for row in broker.assets.values():
        if wanted in (row["symbol"], row["symbol"].replace("/", ""), row["id"]):
            return row
    raise Refused(404, 40410000, f"asset not found for {wanted}")


@contextmanager
def alpaca() -> Iterator[Server]:
    """A running fake, on a port of the kernel's choice."""
    fake = Server()
    handler = type("Bound", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that left are the point
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
