"""`/api/streams/sse` over real HTTP: row-level access, resume, heartbeat, limits, revoked keys."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from django.db import connection
from django.test import Client

from maxxit.access.auth import revoke_key
from maxxit.access.models import ApiKey
from maxxit.api import streams
from maxxit.asgi import application
from maxxit.asgi import streams as streams_app
from maxxit.events import log
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.market.models import Quote
from maxxit.postgres.threads import Pool
from tests.surface.conftest import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The product's ASGI application under uvicorn, as in production."""
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(streams, "_final", log.FinalId())
    pool = Pool(2, "sse", max_age=600)
    monkeypatch.setattr(streams, "_pool", pool)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(application, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        running.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        running.should_exit = True
        thread.join(10)
        pool.close()


class Stream:
    """An open stream; `heard` are the blocks so far, read by a thread."""

    def __init__(self, server: str, headers: dict[str, str], query: str = "") -> None:
        self.heard: list[dict[str, str]] = []
        self.comments = 0
        self.ended = threading.Event()
        self._client = httpx.Client(timeout=httpx.Timeout(10, read=30))
        request = self._client.build_request("GET", f"{server}/api/streams/sse{query}", headers=headers)
        self.response = self._client.send(request, stream=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        if self.response.status_code == 200:
            self._thread.start()

    def _read(self) -> None:
        block: dict[str, str] = {}
        try:
            for line in self.response.iter_lines():
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    field, _, value = line.partition(": ")
                    block[field] = value
                elif block:
                    self.heard.append(block)
                    block = {}
        except (httpx.HTTPError, RuntimeError):
            pass
        self.ended.set()

    def until(self, number: int, seconds: float = 20) -> list[dict[str, Any]]:
        """Wait for so many messages; return them parsed, with the block's id."""
        end = time.monotonic() + seconds
        while len(self.messages()) < number and time.monotonic() < end:
            time.sleep(0.02)
        return self.messages()

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(one["data"]) | {"_id": one.get("id")} for one in self.heard if "data" in one]

    def last_id(self) -> str:
        return [one["id"] for one in self.heard if "id" in one][-1]

    def close(self) -> None:
        """Hang up, and wait until the reading thread has noticed."""
        if self._thread.is_alive():
            stream = self.response.extensions["network_stream"]
            stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self._thread.join(10)
        self.response.close()
        self._client.close()


@pytest.fixture
def opened(server: str) -> Iterator[Any]:
    made: list[Stream] = []

    def open_stream(headers: dict[str, str], query: str = "") -> Stream:
        made.append(Stream(server, headers, query))
        return made[-1]

    yield open_stream
    for one in made:
        one.close()


def test_each_customer_gets_the_events_of_own_rows_and_staff_all(world: World, opened: Any) -> None:
    people = {"alice": world.alice, "bob": world.bob, "root": world.staff}
    keys = {name: world.key(who, "read") for name, who in people.items()}
    start = f"?after={Event.objects.latest('pk').pk}"
    heard = {name: opened(key, start) for name, key in keys.items()}
    record("order.noted", world.of_alice.entry)
    record("order.noted", world.of_bob.entry)
    record("gate.noted", world.of_alice.agent)
    record("platform.noted", Quote(symbol="ETH"))

    subjects = {name: [one["subject"] for one in stream.until(4, 3)] for name, stream in heard.items()}
    of_alice = {f"trading.order/{world.of_alice.entry.pk}", f"agents.agent/{world.of_alice.agent.pk}"}
    assert set(subjects["alice"]) == of_alice
    assert set(subjects["bob"]) == {f"trading.order/{world.of_bob.entry.pk}"}
    assert set(subjects["root"]) == of_alice | set(subjects["bob"]) | {"market.quote/ETH"}


def test_a_client_that_reconnects_misses_nothing_and_gets_nothing_twice(world: World, opened: Any) -> None:
    headers = world.key(world.alice, "read")
    first = opened(headers, "?name=order.noted")
    first.until(0)
    time.sleep(0.3)
    for number in range(3):
        record("order.noted", world.of_alice.entry, number=number)
    assert [one["data"]["number"] for one in first.until(3)] == [0, 1, 2]
    first.close()
    for number in range(3, 6):
        record("order.noted", world.of_alice.entry, number=number)
    second = opened({**headers, "Last-Event-ID": first.last_id()}, "?name=order.noted")

    assert [one["data"]["number"] for one in second.until(3)] == [3, 4, 5]
    assert all(one["_id"] == one["event_id"] for one in second.messages())


def test_updates_and_prices_come_by_name(world: World, opened: Any) -> None:
    headers = world.key(world.alice, "read")
    stream = opened(headers, "?name=exposure_update&name=ticker")
    time.sleep(0.3)
    record("position.open", world.of_alice.position)
    record("position.open", world.of_bob.position)
    found = stream.until(2)
    updates = [one for one in found if one["name"] == "exposure_update"]

    assert [one["data"]["deployment_id"] for one in updates] == [world.of_alice.deployment.pk]
    assert {one["name"] for one in found} <= {"exposure_update", "ticker"}


def test_silence_is_filled_with_comments(world: World, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
    stream = opened(world.key(world.alice, "read"))
    end = time.monotonic() + 10
    while stream.comments < 3 and time.monotonic() < end:
        time.sleep(0.05)
    assert stream.comments >= 3
    assert stream.response.headers["content-type"].startswith("text/event-stream")


def test_a_revoked_key_ends_the_stream(world: World, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_SECONDS", 0.1)
    headers = world.key(world.alice, "read")
    stream = opened(headers)
    time.sleep(0.3)
    assert not stream.ended.is_set()
    assert revoke_key(ApiKey.objects.latest("pk").prefix, by="test") == 1
    assert stream.ended.wait(10)


def test_a_client_that_is_far_behind_is_told_of_the_gap(
    world: World, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_BEHIND", 2)
    headers = world.key(world.alice, "read")
    for number in range(5):
        record("order.noted", world.of_alice.entry, number=number)
    newest = Event.objects.latest("pk").pk
    stream = opened(headers, "?after=0")
    found = stream.until(3)

    assert stream.heard[1]["event"] == "gap"
    assert found[0]["resumed_after"] == newest - 2
    assert [one["data"]["number"] for one in found[1:]] == [3, 4]


def test_open_streams_of_one_key_are_limited_and_counted_until_they_end(
    world: World, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_CALLER", 1)
    headers = world.key(world.alice, "read")
    first = opened(headers)
    time.sleep(0.3)
    assert opened(headers).response.status_code == 429
    first.close()
    record("order.noted", world.of_alice.entry)  # the server notices when it sends
    end = time.monotonic() + 15
    status = 429
    while status == 429 and time.monotonic() < end:
        time.sleep(0.2)
        status = opened(headers).response.status_code
    assert status == 200


def test_a_stream_keeps_its_database_connections(world: World, opened: Any) -> None:
    stream = opened(world.key(world.alice, "read"), "?name=order.noted")
    time.sleep(0.5)
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        [before] = cursor.fetchone()
    reads = 20
    time.sleep(reads * streams.POLL_SECONDS)
    record("order.noted", world.of_alice.entry)
    assert len(stream.until(1)) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        [after] = cursor.fetchone()
    assert after - before < 3


def test_streams_that_are_opened_at_once_count_before_they_begin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_CALLER", 1)
    headers = world.key(world.alice, "read")
    first = Client().get("/api/streams/sse", headers=headers)
    assert first.status_code == 200
    assert Client().get("/api/streams/sse", headers=headers).status_code == 429
    first.close()
    assert Client().get("/api/streams/sse", headers=headers).status_code == 200


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Django's handler leaves the body open
def test_a_stream_counts_no_more_once_its_sending_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's handler then closes the iterator, and never the response."""
    monkeypatch.setattr(streams, "STREAMS_PER_CALLER", 1)
    headers = world.key(world.alice, "read")
    scope = {
        "type": "http", "method": "GET", "path": "/api/streams/sse", "query_string": b"",
        "headers": [(b"host", b"testserver"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
    }  # fmt: skip
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(received, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError(f"nobody takes {message['body']!r}")

    with pytest.raises(OSError, match="retry: 2000") as kept:  # its frames hold the response
        asyncio.run(streams_app(scope, receive, send))
    assert Client().get("/api/streams/sse", headers=headers).status_code == 200
    del kept
    gc.collect()


def test_a_stream_that_is_freed_while_another_begins_waits_for_no_lock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_PER_CALLER", 1)
    headers = world.key(world.alice, "read")
    unsent = [Client().get("/api/streams/sse", headers=headers)]
    freed = threading.Event()

    def free() -> None:
        with streams._opening:
            unsent.clear()
            gc.collect()
        freed.set()

    threading.Thread(target=free, daemon=True).start()
    assert freed.wait(20)
    assert Client().get("/api/streams/sse", headers=headers).status_code == 200


@pytest.mark.parametrize("text", ["x", "-1", "1" * 30])
def test_a_wrong_last_event_id_is_refused(world: World, text: str) -> None:
    headers = {**world.key(world.alice, "read"), "Last-Event-ID": text}
    assert Client().get("/api/streams/sse", headers=headers).status_code == 422


def test_without_a_key_there_is_no_stream(world: World) -> None:
    assert Client().get("/api/streams/sse").status_code == 401
