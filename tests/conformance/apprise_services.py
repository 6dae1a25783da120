"""Apprise: the library sends our messages to services on loopback, and connects only where our rules admit it."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import apprise
import pytest

from tests.conformance.conftest import Fakes

NASTY = "Gate <b>closed</b> @everyone *BTC* [x](http://evil.example) {{ 1 }} \\n & more"
SCHEMAS = ["json", "ntfy", "form", "xml", "gotify", "rsyslog", "mqtt", "mailto"]


class Service:
    """A service that its user hosts: what came, and what it answers."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        self.status, self.location = 200, ""
        self.waits = threading.Event()
        self.waits.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                service.came.append((self.path, body))
                service.waits.wait(20)
                self.send_response(service.status)
                if service.location:
                    self.send_header("location", service.location)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_PUT = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()
    yield one
    one.waits.set()
    one.server.shutdown()
    one.server.server_close()


def ours(fakes: Fakes, url: str, *ports: int, **options: Any) -> str:
    """The error of our channel, or nothing."""
    return str(
        fakes.apprise_ours(interpreter=sys.executable, url=url, schemas=SCHEMAS, ports=list(ports), **options)
    )


def sent(fakes: Fakes, url: str, *ports: int, **options: Any) -> str:
    """The error of a message that may go to loopback."""
    return ours(fakes, url, *ports, text=NASTY, admit=True, **options)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("json://127.0.0.1:{}/hook", lambda body: json.loads(body)["message"]),
        ("ntfy://127.0.0.1:{}/topic", lambda body: json.loads(body)["message"]),
        ("gotify://127.0.0.1:{}/token", lambda body: json.loads(body)["message"]),
    ],
)
def test_a_message_arrives_as_it_is(fakes: Fakes, service: Service, path: str, text: Any) -> None:
    assert sent(fakes, path.format(service.port), service.port) == ""
    ((_, body),) = service.came
    assert text(body) == NASTY


@pytest.mark.parametrize(
    "url",
    [
        "json://127.0.0.1:{}/hook",
        "json://localhost:{}/hook",
        "json://[::1]:{}/hook",
        "json://0.0.0.0:{}/hook",
        "json://127.1:{}/hook",
        "json://[::ffff:127.0.0.1]:{}/hook",
        "ntfy://localhost:{}/topic",
        "gotify://127.0.0.1:{}/token",
        "mqtt://127.0.0.1:{}/topic",
        "mailto://a:b@127.0.0.1:{}/?from=a@b.example&to=c@d.example",
    ],
)
def test_no_service_is_reached_at_an_address_that_is_not_public(
    fakes: Fakes, service: Service, url: str
) -> None:
    error = ours(fakes, url.format(service.port), service.port, text=NASTY)
    assert error.startswith(("Rejected private_address", "Retryable", "Rejected bad_address"))
    assert service.came == []


def test_a_syslog_server_on_loopback_gets_no_datagram(fakes: Fakes) -> None:
    error = ours(fakes, "rsyslog://127.0.0.1:514/daemon", 443, text=NASTY)
    assert (
        error == "Rejected private_address: rsyslog: its service is at 127.0.0.1:514, which is not admitted"
    )


def test_a_port_that_is_not_configured_is_refused_where_the_address_is_admitted(
    fakes: Fakes, service: Service
) -> None:
    assert sent(fakes, f"json://127.0.0.1:{service.port}/hook", 443).startswith("Rejected private_address")
    assert service.came == []


@pytest.mark.parametrize("asked", ["", "?redirect=yes"])
def test_a_redirect_is_not_followed(fakes: Fakes, service: Service, asked: str) -> None:
    service.status, service.location = 307, f"http://127.0.0.1:{service.port}/inside"
    assert sent(fakes, f"json://127.0.0.1:{service.port}/hook{asked}", service.port).startswith("Retryable")
    assert [path for path, _ in service.came] == ["/hook"]


@pytest.mark.parametrize("status", [404, 429, 500])
def test_a_refusal_is_a_failure_that_is_tried_again(fakes: Fakes, service: Service, status: int) -> None:
    """Apprise says no more than that."""
    service.status = status
    error = sent(fakes, f"json://127.0.0.1:{service.port}/a-secret-hook", service.port)
    assert error == "Retryable : json: apprise could not send it"


def test_a_service_that_is_away_or_silent_is_tried_again_in_time(fakes: Fakes, service: Service) -> None:
    assert sent(fakes, "json://127.0.0.1:9/hook", 9).startswith("Retryable")
    service.waits.clear()
    assert sent(fakes, f"json://127.0.0.1:{service.port}/hook?rto=60", service.port, seconds=3.0).startswith(
        "Retryable"
    )


def test_apprise_reads_an_address_when_it_is_set(fakes: Fakes) -> None:
    assert ours(fakes, "ntfy://ntfy.example.org/topic", 443) == ""
    assert ours(fakes, "gotify://127.0.0.1", 443).startswith("Rejected bad_address")  # without its token
    assert ours(fakes, "tgram://1:x/2", 443).startswith("Rejected bad_address")  # not enabled


def test_the_schemas_of_these_tests_are_apprises() -> None:
    for schema in SCHEMAS:
        assert schema in {str(name) for name in apprise.plugins.N_MGR.schemas()}
