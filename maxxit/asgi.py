"""The web process: `gunicorn maxxit.asgi:application` with uvicorn's worker, see `maxxit.ops.local`.

Event streams stay open for minutes, so the event loop serves them. All other requests are synchronous: each runs in one
thread of a few, from the first middleware to the last byte. Django's own ASGI handler takes a new thread for each
request and several changes of thread, which takes twice the processor time (`tests.bench.requests`, ADR 43). The event
loop reads the body first, within limits of size and time, so that a client that sends slowly holds no thread.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application

from maxxit.wsgi import application as django_wsgi

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

THREADS = 8
"""Requests that a web process answers at the same time, beside its streams."""
BODY_SECONDS = 30.0
"""Time that a client has to send the body of a request."""
STREAMS = "/api/streams/"

_wsgi: Any = django_wsgi
streams = get_asgi_application()
pages: Any = WSGIMiddleware(_wsgi, workers=THREADS)


async def application(scope: Any, receive: Receive, send: Send) -> None:
    """Serve a request; 413 for a body above DATA_UPLOAD_MAX_MEMORY_SIZE bytes, 408 for one that takes too long."""
    if scope["type"] != "http" or scope["path"].startswith(STREAMS):
        await streams(scope, receive, send)
        return
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read_body(receive)
    except ConnectionError:
        return  # there is nobody to answer
    except TimeoutError:
        await _refuse(send, 408, "the body took too long")
    except ValueError as error:
        await _refuse(send, 413, str(error))
    else:
        message = {"type": "http.request", "body": body, "more_body": False}
        await pages(scope | {"headers": _wsgi_headers(scope, len(body))}, _once(message, receive), send)


async def _read_body(receive: Receive) -> bytes:
    """Read a body. Raises ConnectionError where the client leaves before its end, ValueError where it is too large."""
    limit, body = settings.DATA_UPLOAD_MAX_MEMORY_SIZE, bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message.get("body", b"")
        if len(body) > limit:
            raise ValueError(f"a body has at most {limit} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _wsgi_headers(scope: Any, length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers as WSGI can carry them, with the length of a body that came in chunks.

    A name with an underscore is left out, as Django's ASGI handler does: in WSGI it would pass for one with a hyphen.
    """
    kept = [
        (name, value)
        for name, value in scope["headers"]
        if b"_" not in name and name not in (b"cookie", b"content-length")
    ]
    cookies = [value for name, value in scope["headers"] if name == b"cookie"]
    if cookies:
        kept.append((b"cookie", b"; ".join(cookies)))
    return [*kept, (b"content-length", str(length).encode())]


def _once(message: dict[str, Any], receive: Receive) -> Receive:
    """Return a `receive` that gives this message, then what the server gives."""
    left = [message]

    async def given() -> Any:
        return left.pop() if left else await receive()

    return given


async def _refuse(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
