"""The fake of Hyperliquid behind HTTP on loopback, with faults."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.trading.venues.hyperliquid.exchange import Exchange, NotUnderstood, Refused, Row

MAINTENANCE = b"<!DOCTYPE html><html><body>We are down for maintenance.</body></html>"
SLOW_SECONDS = 0.3


@dataclass
class Recorded:
    """One request that arrived."""

    path: str
    kind: str
    """`type` of the read, or of the action."""
    body: str

    @property
    def line(self) -> str:
        """Path and type."""
        return f"{self.path} {self.kind}"


@dataclass
class Fault:
    """How the next matching request goes wrong.

    Names: lost (taken, no answer) · unsent (not taken, no answer) · slow (taken, answered after SLOW_SECONDS) · limited
    (429) · broken (500, not taken) · broken_after (500, taken) · maintenance (503 with HTML) · page (200 with HTML) ·
    page_after (200 with HTML, taken) · gone (404 with HTML) · moved (301) · refused (422, not taken) · many (the
    address has used up its requests) · word (taken, answered with an unknown word).
    """

    name: str
    kind: str = ""

    def fits(self, kind: str) -> bool:
        """Return whether it concerns this request."""
        return self.kind in ("", kind)


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

    def misbehaves(self, name: str, kind: str = "", times: int = 1) -> None:
        """Let the next requests of a type go wrong."""
        self.faults.extend([Fault(name, kind)] * times)

    def fault_of(self, kind: str) -> str:
        """Take the next fault of a request; empty for none."""
        with self.lock:
            for fault in self.faults:
                if fault.fits(kind):
                    self.faults.remove(fault)
                    return fault.name
        return ""

    def kinds(self) -> list[str]:
        """Return the type of every request so far."""
        return [request.kind for request in self.requests]

    def actions(self, kind: str) -> list[Row]:
        """Return the bodies of the actions of a type."""
        return [json.loads(one.body) for one in self.requests if one.path == "/exchange" and one.kind == kind]


class Handler(BaseHTTPRequestHandler):
    """Routes a request to the exchange."""

    fake: Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # one packet an answer
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        kind = _kind(raw)
        self.fake.requests.append(Recorded(self.path, kind, raw))
        fault = self.fake.fault_of(kind)
        if fault in BEFORE:
            return self.send(*BEFORE[fault])
        if fault == "unsent":
            return self.hang_up()
        if fault == "many":
            text = "Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0.0."
            return self.send(200, json.dumps({"status": "err", "response": text}).encode())
        status, answer = self.answer(raw)
        if fault == "lost":
            return self.hang_up()
        if fault == "broken_after":
            return self.send(500, b"null")
        if fault == "page_after":
            return self.send(200, MAINTENANCE, "text/html")
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        if fault == "word":
            answer = {
                "status": "ok",
                "response": {"type": "order", "data": {"statuses": ["aWordOfTomorrow"]}},
            }
        if isinstance(answer, str) and status != 200:
            return self.send(status, answer.encode(), "text/plain")
        return self.send(status, json.dumps(answer).encode())

    def answer(self, raw: str) -> tuple[int, Any]:
        """Return status and body."""
        try:
            if self.path == "/info":
                return 200, self.fake.exchange.info(json.loads(raw))
            if self.path == "/exchange":
                return 200, {"status": "ok", "response": self.fake.exchange.act(raw)}
        except Refused as refusal:
            return 200, {"status": "err", "response": str(refusal)}
        except NotUnderstood as error:
            return 422, str(error)
        return 404, "not found"

    def send(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        return


BEFORE: dict[str, tuple[int, bytes, str]] = {
    "limited": (429, b"null", "application/json"),
    "broken": (500, b"null", "application/json"),
    "maintenance": (503, MAINTENANCE, "text/html"),
    "page": (200, MAINTENANCE, "text/html"),
    "gone": (404, MAINTENANCE, "text/html"),
    "moved": (301, b"", "text/html"),
    "refused": (422, b"Failed to deserialize the JSON body into the target type", "text/plain"),
}
"""Faults whose request takes no effect."""


def _kind(raw: str) -> str:
    try:
        body = json.loads(raw)
        return str(body["action"]["type"] if "action" in body else body["type"])
    except (ValueError, KeyError, TypeError):
        return ""


@contextmanager
def hyperliquid() -> Iterator[Server]:
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
