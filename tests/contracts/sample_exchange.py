"""The venue of docs/new-venue.md, taken from the page itself, and the exchange that it trades at."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

from maxxit.core import clock
from maxxit.core.config import ROOT
from trading.credentials import sealing
from trading.credentials.models import VenueCredential
from trading.venues.base import Venue

PRICE, FEE, KEY = Decimal("2001"), Decimal("0.5"), "a-key-that-may-trade"
PAGE = ROOT / "docs" / "new-venue.md"


def module_of_the_page(page: Path = PAGE) -> ModuleType:
    """Return the module that the page shows, made from its one block of Python."""
    [code] = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    module = ModuleType("trading.venues.sample")
    sys.modules[module.__name__] = module
    exec(compile(code, str(page), "exec"), module.__dict__)
    return module


class Exchange:
    """Takes orders and fills them at once, half of each before it is asked the second time."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.effects: dict[str, int] = {}
        self.open, self.may = True, ["trade"]

    def answer(self, method: str, path: str, key: str, body: Any) -> tuple[int, Any]:
        """Return status and JSON."""
        if key != KEY:
            return 401, {"error": "unknown key"}
        if path in ("/clock", "/key", "/balances"):
            return 200, {
                "/clock": {"open": self.open},
                "/key": {"account": "A-1", "may": self.may},
                "/balances": {"USD": "10000"},
            }[path]
        if (method, path) == ("POST", "/orders"):
            return self._take(body)
        row = self.orders.get(path.removeprefix("/orders/"))
        if row is None:
            return 404, {"error": "no such order"}
        if method == "DELETE":
            row["status"] = "canceled" if row["status"] == "working" else row["status"]
            return 200, {}
        answer = {**row, "fills": list(row["fills"])}
        self._fill(row)
        return 200, answer

    def _take(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["id"] in self.orders:
            return 200, self.orders[body["id"]]
        self.effects[body["id"]] = self.effects.get(body["id"], 0) + 1
        row = {**body, "status": "working", "fills": []}
        self.orders[body["id"]] = row
        self._fill(row)
        return 201, row

    def _fill(self, row: dict[str, Any]) -> None:
        if row["status"] != "working":
            return
        number, half = len(row["fills"]), Decimal(row["quantity"]) / 2
        row["fills"].append(
            {
                "id": f"{row['id']}-{number}",
                "quantity": str(half),
                "fee": str(FEE),
                "at": datetime.now(UTC).isoformat(),
                "price": str(PRICE if row["side"] == "buy" else PRICE - 2),
            }
        )
        if number == 1:
            row["status"] = "done"


@contextmanager
def serving(exchange: Exchange) -> Iterator[str]:
    """Serve the exchange on loopback inside this block; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            size = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, answer = exchange.answer(self.command, self.path, self.headers.get("x-key", ""), body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


_servers = ExitStack()


@cache
def _running() -> tuple[Exchange, str]:
    """Return the exchange of this process and its URL; it ends with the process."""
    exchange = Exchange()
    return exchange, _servers.enter_context(serving(exchange))


def contract_venue() -> Venue:
    """Return the venue of the page at an empty exchange, with the keys of two accounts stored."""
    exchange, url = _running()
    exchange.__init__()  # type: ignore[misc]
    made: Venue = module_of_the_page().SampleVenue(base_url=url, slippage_bps=5, shorts=True)
    made.name = "sample"
    for account in ("contract:1", "contract:2"):
        row = VenueCredential(venue=made.name, account=account, stored_by="test", stored_at=clock.now())
        sealed = sealing.seal({"key": KEY}, row.context)
        row.content, row.key_id = sealed.content, sealed.key_id
        row.save()
    return made
