"""A server of feeds on this machine, with validators as RFC 9110 has them; Django writes the feeds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from django.utils.feedgenerator import Atom1Feed, Rss201rev2Feed, SyndicationFeed

from maxxit.core import egress
from signals_app.sources.rss import CONTENT_TYPES

HOST = "feeds.example.org"


@dataclass
class FeedServer:
    """What it serves, and what was asked of it."""

    port: int = 0
    feeds: dict[str, bytes] = field(default_factory=dict)
    """Path -> document."""
    kind: str = "application/rss+xml; charset=utf-8"
    status: int = 200
    asked: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request, names in lower case."""

    def url(self, path: str = "/feed") -> str:
        return f"http://{HOST}:{self.port}{path}"

    @property
    def rules(self) -> egress.Rules:
        """Rules under which this server may be asked."""
        return egress.Rules(
            schemes=("http",),
            ports=(self.port,),
            hosts=(HOST,),
            content_types=CONTENT_TYPES,
            max_seconds=10,
            resolve=lambda host, port: ["127.0.0.1"],
            admits=lambda address: address == ip_address("127.0.0.1"),
        )


@contextmanager
def feed_server() -> Iterator[FeedServer]:
    state = FeedServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append(headers)
            body = state.feeds.get(self.path, b"")
            tag = f'"{sha256(body).hexdigest()[:16]}"'
            status = state.status if body or state.status != 200 else 404
            if status == 200 and headers.get("if-none-match") == tag:
                status, body = 304, b""
            self.send_response(status)
            self.send_header("ETag", tag)
            if status != 304:
                self.send_header("Content-Type", state.kind)
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def written(kind: type[SyndicationFeed], *entries: tuple[str, datetime, Any]) -> bytes:
    """A feed as Django writes it; each entry is (its id, its time, its text)."""
    feed = kind(title="News", link="https://news.example.org/", description="News")
    for ident, at, text in entries:
        feed.add_item(
            title="",
            link=f"https://news.example.org/{ident}",
            description="" if text is None else str(text),
            unique_id=ident,
            pubdate=at,
            updateddate=at,
        )
    return feed.writeString("utf-8").encode()


RSS, ATOM = Rss201rev2Feed, Atom1Feed
