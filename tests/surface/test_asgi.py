"""The application that the web process serves: pages in a few threads, streams on the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from inspect import iscoroutinefunction
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import get_resolver

from maxxit import asgi
from maxxit.access.auth import create_key
from tests import builders as make


def ask(*paths: str, key: str = "") -> list[httpx.Response]:
    """The answers to requests that are made at the same time."""

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(asgi.application)
        headers = {"X-API-Key": key} if key else {}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as client:
            return await asyncio.gather(*(client.get(path) for path in paths))

    return asyncio.run(all_of_them())


def test_an_answer_has_all_headers_and_its_length() -> None:
    [answer] = ask("/health/live")
    assert answer.json() == {"status": "ok"}
    assert answer.headers["Content-Length"] == "16"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    [missing] = ask("/api/nothing")
    assert missing.status_code == 404


@pytest.mark.django_db(transaction=True)
def test_rows_are_read_in_a_thread_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        connection.settings_dict, "CONN_MAX_AGE", 0
    )  # the thread must not keep the test database open
    user = User.objects.create_user("alice")
    made = make.signal(make.agent(owner=user))
    [answer] = ask("/api/signals", key=create_key(user, "one", ["read"], by="test"))
    assert [row["id"] for row in answer.json()["items"]] == [made.pk]


def asked(*messages: dict[str, Any], headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """What is sent back when the client sends these messages of a POST and then nothing more."""
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        left = list(messages)

        async def receive() -> dict[str, Any]:
            return left.pop(0) if left else await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        all_headers = {"host": "localhost"} | (headers or {})
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/login", "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }  # fmt: skip
        await asyncio.wait_for(asgi.application(scope, receive, send), 30)

    asyncio.run(run())
    return sent


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[HttpRequest]:
    """The requests that come to Django, each with its body read."""
    requests: list[HttpRequest] = []

    def keep(_: WSGIHandler, request: HttpRequest) -> JsonResponse:
        assert request.body is not None
        requests.append(request)
        return JsonResponse({})

    monkeypatch.setattr(WSGIHandler, "get_response", keep)
    return requests


def test_a_body_in_chunks_without_a_length_arrives_whole(seen: list[HttpRequest]) -> None:
    assert asked(piece(b"first, "), piece(b"second", more=False))[0]["status"] == 200
    assert seen[0].body == b"first, second"


def test_a_client_that_sends_slowly_holds_no_thread(
    seen: list[HttpRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)
    assert asked(piece(b"first, "))[0]["status"] == 408
    assert not seen


def test_a_body_that_is_too_large_or_broken_off_does_not_come_to_django(
    seen: list[HttpRequest], settings: Any
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert asked(piece(b"x" * 11))[0]["status"] == 413
    assert asked(piece(b"half"), {"type": "http.disconnect"}) == []
    assert not seen


def test_a_header_with_an_underscore_does_not_pass_for_another(seen: list[HttpRequest]) -> None:
    asked(piece(b"", more=False), headers={"x_forwarded_proto": "https", "x-api-key": "k", "cookie": "a=1"})
    assert "X-Forwarded-Proto" not in seen[0].headers
    assert (seen[0].headers["X-API-Key"], seen[0].COOKIES) == ("k", {"a": "1"})


def test_a_slow_request_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4, timeout=30)

    def slow(_: WSGIHandler, __: HttpRequest) -> JsonResponse:
        return JsonResponse({"place": together.wait()})

    monkeypatch.setattr(WSGIHandler, "get_response", slow)
    assert {answer.json()["place"] for answer in ask(*["/health/live"] * 4)} == {0, 1, 2, 3}


def test_each_asynchronous_view_is_below_the_streams() -> None:
    """Under WSGI an asynchronous stream would be gathered whole before its first byte."""
    found = list(views(get_resolver()))
    assert len(found) > 100
    assert [
        path for path, view in found if iscoroutinefunction(view) and not path.startswith(asgi.STREAMS)
    ] == []


def views(resolver: Any, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    for pattern in resolver.url_patterns:
        path = f"{prefix}{pattern.pattern}".replace("^", "")
        if hasattr(pattern, "url_patterns"):
            yield from views(pattern, path)
        else:
            yield path, pattern.callback
