"""`/api/streams/sse`: the event log as server-sent events, with resume by Last-Event-ID."""

import asyncio
import json
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from django.db import connection
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Query
from ninja.errors import HttpError
from pydantic import Field

from maxxit.access.auth import READERS, Caller, caller, still_valid
from maxxit.access.permissions import needs
from maxxit.access.rows import visible_subjects
from maxxit.api.routing import Router
from maxxit.bus import updates
from maxxit.bus.messages import Message
from maxxit.events import log
from maxxit.postgres.threads import Pool
from maxxit.reports.schemas import Problem

router = Router(tags=["streams"])
CHUNK = 500
"""Events read at a time."""
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
"""A comment is sent after this much silence, so that proxies and clients know that the connection is alive."""
LIFETIME_SECONDS = 900.0
"""Then the connection ends: clients connect again with Last-Event-ID, and are authenticated again."""
RECHECK_SECONDS = 30.0
"""A revoked key gets no event after this."""
STREAMS_PER_CALLER = 5
"""Open streams of one key or user, in each web process."""
MOST_BEHIND = 100_000
"""How many events a client may lag behind; beyond that it gets a gap notice instead of the missed events."""
TICKER_SECONDS = 1.0

READERS_AT_ONCE = 4
"""Threads, each with one database connection, that read for all streams of a web process."""

_final = log.FinalId(every=0.25)
_pool = Pool(READERS_AT_ONCE, "sse", max_age=600)  # the other connections of a web process are not kept
_opening = threading.Lock()


class Reader:
    """Reads the messages of one stream, on a thread of the pool."""

    def __init__(self, who: Caller, patterns: Sequence[str], after: int | None) -> None:
        self.who, self.patterns = who, tuple(patterns)
        self.position = after
        self.behind = False
        """Whether the newest event was not read yet."""
        self._checked_at = time.monotonic()
        self._tickers: dict[str, str] = {}
        self._tickers_at = float("-inf")

    def read(self) -> str | None:
        """Return the next messages as server-sent events, empty for none; None when the caller may read no more."""
        if time.monotonic() - self._checked_at > RECHECK_SECONDS:
            self._checked_at = time.monotonic()
            if not still_valid(self.who):
                return None
        return self._gap() + self._events() + self._prices()

    def _gap(self) -> str:
        """Set the position at the start; say so where events are skipped."""
        final = _final.read()
        if self.position is None or self.position > final:
            self.position = final
        if final - self.position <= MOST_BEHIND:
            return ""
        skipped = {"after": self.position, "resumed_after": final - MOST_BEHIND}
        self.position = final - MOST_BEHIND
        return f"event: gap\ndata: {json.dumps(skipped)}\n\n"

    def _events(self) -> str:
        position = self.position or 0
        found = log.read(position, _final.read(), CHUNK)
        self.behind = len(found) == CHUNK
        if not found:
            return ""
        self.position = found[-1].id
        seen = visible_subjects({event.subject for event in found}, self.who.person)
        own = [event for event in found if seen is None or event.subject in seen]
        messages = [one for one in updates.messages(own) if log.wanted(one.name, self.patterns)]
        # Updates have no id of their own: they come first, so that a client that resumes gets them again.
        messages.sort(key=lambda one: one.topic == "events")
        return "".join(map(_block, messages)) + f"id: {self.position}\n\n"

    def _prices(self) -> str:
        if "ticker" not in self.patterns or time.monotonic() - self._tickers_at < TICKER_SECONDS:
            return ""
        self._tickers_at = time.monotonic()
        return "".join(map(_block, updates.tickers(self._tickers)))


def _block(message: Message) -> str:
    ident = f"id: {message.event_id}\n" if message.topic == "events" else ""
    return f"{ident}event: {message.name}\ndata: {message.as_json()}\n\n"


async def _stream(reader: Reader) -> AsyncIterator[bytes]:
    """Yield server-sent events until the client leaves, its rights end, or the connection is old."""
    end = time.monotonic() + LIFETIME_SECONDS
    spoken = time.monotonic()
    yield b"retry: 2000\n\n"
    while time.monotonic() < end:
        text = await asyncio.wrap_future(_pool.submit(reader.read))
        if text is None:
            return
        if not text and time.monotonic() - spoken >= HEARTBEAT_SECONDS:
            text = ": alive\n\n"
        if text:
            spoken = time.monotonic()
            yield text.encode()
        if not reader.behind:
            await asyncio.sleep(POLL_SECONDS)


_open: defaultdict[str, weakref.WeakSet[Reader]] = defaultdict(weakref.WeakSet)
"""Key or user -> readers of its open streams. One whose response is dropped unsent leaves with it: nothing that runs
while memory is freed may wait for a lock."""


def _begin(reader: Reader) -> None:
    """Count a stream of a key or user. Raises HttpError 429 where too many are open."""
    with _opening:
        own = _open[reader.who.ident]
        if len(own) >= STREAMS_PER_CALLER:
            raise HttpError(429, f"{STREAMS_PER_CALLER} streams are open for you: close one first")
        own.add(reader)


class _Stream(StreamingHttpResponse):
    """A stream that counts as open until it ends, the client leaves, or the server drops it unsent."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(
            _stream(reader),
            content_type="text/event-stream; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what is sent; Django closes this iterator however the sending ends, and the response not always."""
        try:
            async for part in super().__aiter__():
                yield part
        finally:
            self._uncount()

    def close(self) -> None:
        """Close it, and count it no more."""
        super().close()
        self._uncount()

    def _uncount(self) -> None:
        _open[self._reader.who.ident].discard(self._reader)


@router.get(
    "/sse",
    auth=READERS,
    response={401: Problem, 403: Problem, 422: Problem, 429: Problem},
    openapi_extra={
        "parameters": [
            {
                "in": "header",
                "name": "Last-Event-ID",
                "schema": {"type": "integer"},
                "description": "continue after this event",
            }
        ],
        "responses": {200: {"description": "server-sent events", "content": {"text/event-stream": {}}}},
    },
)
@needs("events.view_event")
def sse(
    request: HttpRequest,
    name: Annotated[
        list[Annotated[str, Field(max_length=60)]], Query(max_length=20, description="names or patterns")
    ] = [],  # noqa: B006 (ninja copies it)
    after: Annotated[int | None, Query(ge=0, lt=2**63, description="continue after this event")] = None,
) -> StreamingHttpResponse:
    """Stream the events of your rows, and the updates that follow from them, as they happen.

    `name` selects events: names or patterns such as `order.*`, `exposure_update`; prices only with `ticker`. A client
    that reconnects sends Last-Event-ID, as browsers do, and misses nothing. A message may arrive twice, with the same
    `event_id`.
    """
    reader = Reader(caller(request), name, _last_id(request, after))
    _begin(reader)
    response = _Stream(reader)
    if not connection.in_atomic_block:
        connection.close()  # of the request: Django would keep it until the stream ends
    return response


def _last_id(request: HttpRequest, after: int | None) -> int | None:
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return after
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HttpError(422, "Last-Event-ID: send the `id` of the last event that you received")
    return int(text)
