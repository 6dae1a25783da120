"""What every notification channel must do. A new channel enrols with one line in `CHANNELS`.

The retries, claims and circuit breaker around the channels are in `tests/notify`.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maxxit.core import egress
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.notify.channels import CHANNELS as REGISTRY
from maxxit.notify.channels import webhook
from maxxit.notify.channels.base import Channel, Message

CHANNELS: dict[str, Any] = {"inbox": None, "log": None, "webhook": webhook}
"""Name -> its module where it sends to a URL of the user within the limits `RULES` of that module; else None."""
BY_URL = [name for name, module in CHANNELS.items() if module is not None]


@dataclass
class Receiver:
    """A server on this machine that answers `status` and keeps what it was sent."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    here = egress.Rules(schemes=("http",), ports=(server.server_port,), admits=lambda address: True)
    for name in BY_URL:
        monkeypatch.setattr(CHANNELS[name], "RULES", here)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    receiver.stop = stop
    yield receiver
    stop()


def message(address: str = "") -> Message:
    return Message(
        ident="d_1",
        name="rule.matched",
        at="2026-03-02T00:00:00+00:00",
        user="ann",
        text="BTC is at 71000 USD (price above 70000 USD)",
        data={"symbol": "BTC", "price": "71000"},
        address=address,
        secret="mxw_secret",
    )


def opened(name: str) -> Channel:
    return REGISTRY.open(name)


def test_every_channel_is_enrolled() -> None:
    assert set(CHANNELS) == set(REGISTRY)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_says_whether_it_needs_an_address(name: str) -> None:
    channel = opened(name)
    assert (channel.address_field is not None) is (name in BY_URL)
    assert channel.title
    assert channel.about.endswith(".")
    if channel.address_field is None:
        channel.check("")


@pytest.mark.parametrize("name", CHANNELS)
def test_a_message_is_sent_on_a_thread_without_the_database(name: str, receiver: Receiver) -> None:
    """This test asks for no database: pytest-django refuses any query."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(opened(name).send, message(receiver.url)).result()

    assert len(receiver.bodies) == (1 if name in BY_URL else 0)
    assert all(b"BTC is at 71000 USD" in body for body in receiver.bodies)


@pytest.mark.parametrize("name", BY_URL)
def test_an_address_that_the_receiver_serves_is_accepted(name: str, receiver: Receiver) -> None:
    opened(name).check(receiver.url)


@pytest.mark.parametrize("name", BY_URL)
@pytest.mark.parametrize("address", ["", "pigeon", "https://127.0.0.1/", "https://user@93.184.216.34/"])
def test_an_address_that_can_never_be_sent_to_is_refused(name: str, address: str) -> None:
    with pytest.raises(Rejected):
        opened(name).check(address)


@pytest.mark.parametrize("name", BY_URL)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_receiver_that_fails_now_is_tried_again(name: str, status: int, receiver: Receiver) -> None:
    receiver.status = status
    with pytest.raises((Retryable, Unknown)):
        opened(name).send(message(receiver.url))


@pytest.mark.parametrize("name", BY_URL)
def test_a_receiver_that_is_away_is_tried_again(name: str, receiver: Receiver) -> None:
    receiver.stop()
    with pytest.raises((Retryable, Unknown)):
        opened(name).send(message(receiver.url))


@pytest.mark.parametrize("name", BY_URL)
@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_receiver_that_refuses_is_not_tried_again(name: str, status: int, receiver: Receiver) -> None:
    receiver.status = status
    with pytest.raises(Rejected):
        opened(name).send(message(receiver.url))
    assert len(receiver.bodies) == 1
