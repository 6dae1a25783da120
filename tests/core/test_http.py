"""The one door out: how each failure of the other side is named."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.http import MAX_RETRY_AFTER, Response, client, fetch, retry_after, when_answered


class Server(BaseHTTPRequestHandler):
    """`/code/N` answers N, `/drip` sends a byte every 20 ms without end, `/big` a megabyte, `/cut` stops half-way."""

    def do_GET(self) -> None:
        what, _, number = self.path[1:].partition("/")
        self.send_response(int(number) if what == "code" else 200)
        if number == "429":
            self.send_header("retry-after", "7")
        self.send_header("content-length", "1000000" if what != "code" else "2")
        self.end_headers()
        try:
            if what == "code":
                self.wfile.write(b"{}")
            elif what == "big":
                self.wfile.write(b"x" * 1_000_000)
            elif what == "drip":
                for _ in range(500):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
        except OSError:
            return

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "writes", "error"),
    [
        ("/code/429", True, Retryable),
        ("/code/500", False, Retryable),
        ("/code/500", True, Unknown),
        ("/code/404", True, Rejected),
        ("/cut", False, Retryable),
        ("/cut", True, Unknown),
        ("/big", False, Rejected),
        ("/drip", False, Retryable),
        ("/drip", True, Unknown),
    ],
)
def test_each_failure_says_whether_it_happened(
    url: str, path: str, writes: bool, error: type[Exception]
) -> None:
    with client(url, timeout=5) as http, pytest.raises(error):
        fetch(http, "POST" if writes else "GET", path, writes=writes, max_body=100_000, max_seconds=0.3)


def test_a_server_that_is_not_there_was_certainly_not_reached() -> None:
    with client("http://127.0.0.1:1", timeout=5) as http, pytest.raises(Retryable):
        fetch(http, "POST", "/", writes=True)


def test_the_servers_hint_is_kept(url: str) -> None:
    with client(url) as http, pytest.raises(Retryable) as caught:
        fetch(http, "GET", "/code/429")
    assert caught.value.after == 7


@pytest.mark.parametrize("name", ["retry-after", "x-rate-limit-reset"])
def test_a_server_asks_for_a_day_at_most(name: str) -> None:
    assert retry_after(Response(429, headers={name: "9" * 400})) == MAX_RETRY_AFTER


@pytest.mark.parametrize(
    ("path", "times"), [("/code/200", 1), ("/cut", 1), ("/code/302", 0), ("/code/500", 0)]
)
def test_an_accepted_request_is_noted_when_its_status_is_read(url: str, path: str, times: int) -> None:
    noted: list[int] = []
    with (
        client(url) as http,
        when_answered(lambda: noted.append(1)),
        suppress(Unknown, Rejected),
    ):
        fetch(http, "POST", path, writes=True, max_seconds=2.0)
    assert len(noted) == times, "also where the body never comes"
    with client(url) as http:
        fetch(http, "POST", "/code/200")
    assert len(noted) == times
