"""The application that the web process serves: pages in a few threads, streams on the event loop."""

import asyncio
import threading

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, JsonResponse

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


def test_a_slow_request_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4, timeout=30)

    def slow(_: WSGIHandler, __: HttpRequest) -> JsonResponse:
        return JsonResponse({"place": together.wait()})

    monkeypatch.setattr(WSGIHandler, "get_response", slow)
    assert {answer.json()["place"] for answer in ask(*["/health/live"] * 4)} == {0, 1, 2, 3}
