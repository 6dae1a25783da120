"""The fake exchange behind HTTP on loopback, with faults: what Coinbase Advanced answers to REST requests."""

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

from tests.trading.venues.coinbase.exchange import Exchange, Portfolio, Refused, Row
from tests.trading.venues.coinbase.tokens import HOST, is_valid, key_name

API = "/api/v3/brokerage"
MAINTENANCE = b"<!DOCTYPE html><html><body>Coinbase is down for maintenance.</body></html>"
SLOW_SECONDS = 0.3


@dataclass
class Recorded:
    """One request that arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: str
    token: str

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
    gone (404 with HTML) · moved (301) · unauthorized (401) · invalid (400) · nothing (200, {}, not taken) · refused
    (200, success false) · unexplained (200, success false without a reason, although it was taken).
    """

    name: str
    method: str = ""
    path: str = ""

    def fits(self, method: str, path: str) -> bool:
        """Return whether it concerns this request; a path that ends with $ must be the whole."""
        whole = self.path.endswith("$")
        same = path == API + self.path[:-1] if whole else path.startswith(API + self.path)
        return self.method in ("", method) and same


@dataclass
class Server:
    """A running fake."""

    exchange: Exchange = field(default_factory=Exchange)
    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[Recorded] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Forget everything."""
        self.exchange.reset()
        self.faults.clear()
        self.requests.clear()

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
    """Routes a request to the exchange."""

    fake: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet an answer
    disable_nagle_algorithm = True

    def handle_one(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qsl(url.query)
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        self.fake.requests.append(Recorded(self.command, path, query, raw, token))
        fault = self.fake.fault_of(self.command, path)
        if before := BEFORE.get(fault):
            return before(self)
        try:
            status, answer = self.answer(path, query, raw, token)
        except Refused as refusal:
            status, answer = refusal.status, refusal.body
        except PermissionError:
            return self.unauthorized()
        if fault == "lost":
            return self.hang_up()
        if fault == "broken_after":
            return self.broken()
        if fault == "unexplained":
            answer = {"success": False, "failure_reason": "UNKNOWN_FAILURE_REASON", "order_id": ""}
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        return self.send(status, json.dumps(answer).encode())

    do_GET = do_POST = handle_one

    def answer(self, path: str, query: list[tuple[str, str]], raw: str, token: str) -> tuple[int, Any]:
        """Return status and body."""
        exchange = self.fake.exchange
        assert path.startswith(API)
        parts = path.removeprefix(f"{API}/").split("/")
        if parts == ["time"]:
            at = exchange.now()
            seconds = int(at.timestamp())
            return 200, {
                "iso": at.isoformat(),
                "epochSeconds": str(seconds),
                "epochMillis": str(int(at.timestamp() * 1000)),
            }
        portfolio = exchange.portfolios.get(key_name(token))
        uri = f"{self.command} {HOST}{path}"
        if portfolio is None or not is_valid(token, portfolio.issued, uri, exchange.now()):
            raise PermissionError
        if self.command == "POST":
            return 200, _write(exchange, portfolio, parts, json.loads(raw))
        return 200, _read(exchange, portfolio, parts, query)

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True

    def limited(self) -> None:
        self.send(429, b'{"error":"RESOURCE_EXHAUSTED","message":"too many requests"}')

    def broken(self) -> None:
        self.send(500, b'{"error":"INTERNAL","message":"internal server error"}')

    def maintenance(self) -> None:
        self.send(503, MAINTENANCE, "text/html")

    def page(self) -> None:
        self.send(200, MAINTENANCE, "text/html")

    def gone(self) -> None:
        self.send(404, MAINTENANCE, "text/html")

    def moved(self) -> None:
        self.send(301, b"", location="https://elsewhere.example/api/v3/brokerage/orders")

    def unauthorized(self) -> None:
        self.send(401, b"Unauthorized\n", "text/plain")

    def invalid(self) -> None:
        self.send(400, b'{"error":"INVALID_ARGUMENT","error_details":"","message":"invalid argument"}')

    def nothing(self) -> None:
        self.send(200, b"{}")

    def refused(self) -> None:
        self.send(
            200,
            b'{"success":false,"failure_reason":"UNKNOWN_FAILURE_REASON","error_response":{"error":"INVALID_LIMIT_PRICE",'
            b'"message":"Invalid limit price","new_order_failure_reason":"INVALID_LIMIT_PRICE"}}',
        )

    def log_message(self, format: str, *args: Any) -> None:
        return


BEFORE = {
    "unsent": Handler.hang_up,
    "limited": Handler.limited,
    "broken": Handler.broken,
    "maintenance": Handler.maintenance,
    "page": Handler.page,
    "gone": Handler.gone,
    "moved": Handler.moved,
    "unauthorized": Handler.unauthorized,
    "invalid": Handler.invalid,
    "nothing": Handler.nothing,
    "refused": Handler.refused,
}
"""Faults whose request takes no effect."""


def _write(exchange: Exchange, portfolio: Portfolio, parts: list[str], body: Row) -> Any:
    match parts:
        case ["orders"]:
            return exchange.create(portfolio, body)
        case ["orders", "preview"]:
            return exchange.preview(portfolio, body)
        case ["orders", "batch_cancel"]:
            return exchange.cancel(portfolio, body["order_ids"])
        case ["orders", "edit"]:
            return exchange.edit(portfolio, body)
    raise Refused(404, "NOT_FOUND", "no such endpoint")


def _read(exchange: Exchange, portfolio: Portfolio, parts: list[str], query: list[tuple[str, str]]) -> Any:
    match parts:
        case ["orders", "historical", "batch"]:
            return exchange.orders(portfolio, query)
        case ["orders", "historical", "fills"]:
            return exchange.executions(portfolio, query)
        case ["orders", "historical", order_id]:
            return {"order": exchange.order(portfolio, order_id)}
        case ["accounts"]:
            return exchange.accounts(portfolio, query)
        case ["accounts", ident]:
            return {"account": _account(exchange, portfolio, ident)}
        case ["products"]:
            return {"products": list(exchange.products.values()), "num_products": len(exchange.products)}
        case ["products", product_id] if product_id in exchange.products:
            return exchange.products[product_id]
        case ["key_permissions"]:
            return exchange.key_permissions(portfolio)
    raise Refused(404, "NOT_FOUND", f"{parts[-1]} was not found")


def _account(exchange: Exchange, portfolio: Portfolio, ident: str) -> Row:
    for currency in portfolio.held:
        if (account := exchange.account(portfolio, currency))["uuid"] == ident:
            return account
    raise Refused(404, "NOT_FOUND", "account was not found")


@contextmanager
def coinbase() -> Iterator[Server]:
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
