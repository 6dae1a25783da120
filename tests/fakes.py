"""Stand-ins for what lies outside the machine's edge: a model, a venue, X. They misbehave as a test asks."""

import json
import math
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse
from uuid import UUID

from django.db import OperationalError
from psycopg.errors import QueryCanceled
from pydantic import BaseModel

from maxxit.core import clock
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.market import quotes
from signals_app.reading.proposal import Proposal
from signals_app.reading.schema import Reading, Readings
from trading.venues.base import Capabilities, Prepared, Report, Request, Venue, VenueFill


def statement_timeout() -> OperationalError:
    """What Django raises for a statement beyond its time limit; held against Postgres in tests/postgres."""
    text = "canceling statement due to statement timeout"
    error = OperationalError(text)
    error.__cause__ = QueryCanceled(text)
    return error


@dataclass
class Asked:
    """What `ask` returns."""

    answer: BaseModel
    trace_id: int = 0


class FakeModel:
    """In place of `maxxit.llm.ask.ask`: reads posts as the test says; says "no call" of every other."""

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = {}
        self.silent_about: set[str] = set()
        self.errors: deque[Exception] = deque()
        self.proposal: Proposal | None = None
        self.asked: list[list[str]] = []
        self.correlation_ids: list[list[UUID]] = []

    def reads(self, post_id: str, *tokens: str, **fields: Any) -> None:
        """What it will say of one post: bullish on `tokens`, unless told otherwise."""
        values = {
            "candidate": True,
            "sentiment": "bullish",
            "confidence": Decimal("0.9"),
            "reasoning": "a call",
        }
        self.readings[post_id] = Reading(post_id=post_id, tokens=tokens, **values | fields)

    def __call__(
        self,
        *,
        purpose: str,
        data: Mapping[str, Any],
        schema: type[BaseModel],
        correlation_ids: Sequence[UUID],
        agent: str = "",
        account: str = "",
        provider: str | None = None,
    ) -> Asked:
        """Answer, or fail as told."""
        ids = [one["post_id"] for one in data["posts"]]
        self.asked.append(ids)
        self.correlation_ids.append(list(correlation_ids))
        if self.errors:
            raise self.errors.popleft()
        if purpose == "generate":
            assert self.proposal is not None
            return Asked(self.proposal)
        said = [self.readings.get(one) or nothing(one) for one in ids if one not in self.silent_about]
        return Asked(Readings(readings=tuple(said)))


def nothing(post_id: str) -> Reading:
    """A reading of a post that is no call."""
    return Reading(
        post_id=post_id,
        candidate=False,
        tokens=(),
        sentiment="neutral",
        confidence=Decimal("0.1"),
        reasoning="no call",
    )


@dataclass
class AtVenue:
    """One order as the fake venue holds it."""

    request: Mapping[str, Any]
    state: str = "accepted"
    fills: list[VenueFill] = field(default_factory=list)
    hidden_until: datetime | None = None


class FakeVenue(Venue):
    """A broker with a book of its own that misbehaves as told; it counts the orders that took effect.

    `sends` is the script of the coming `send` calls, `finds` of the coming `find` calls; when a script is over
    all goes well. Words of `sends`: ok · silent (taken, no answer) · lost (not taken, no answer) · away (certainly
    not taken) · refused. Words of `finds`: ok · away · absent (denies an order that it has).
    """

    name = "paper"

    def __init__(self, *, dedup: bool = True, find_lag: timedelta = timedelta(0), fills: bool = True) -> None:
        self.capabilities = Capabilities(
            dedup=dedup, shorts=True, max_leverage=Decimal(1), collects_fees=False, find_lag=find_lag
        )
        self.fills_at_once = fills
        self.sends: deque[str] = deque()
        self.finds: deque[str] = deque()
        self.book: dict[str, AtVenue] = {}
        self.effects: Counter[str] = Counter()
        """Client order id -> how many orders it became."""
        self.objection: str | Exception = ""
        self._lock = threading.Lock()

    def prepare(self, request: Request) -> Prepared:
        """The same terms as text."""
        payload = {
            name: str(getattr(request, name)) for name in ("symbol", "side", "quantity", "reference_price")
        }
        return Prepared(request.client_order_id, payload)

    def send(self, prepared: Prepared) -> None:
        """Take the order, or not, and say so, or not."""
        with self._lock:
            how = self.sends.popleft() if self.sends else "ok"
            if how == "away":
                raise Retryable("the venue is away")
            if how == "refused" and prepared.ref not in self.book:  # a repeat is known before it is judged
                raise Rejected("no such market today", code="market_closed")
            if how != "lost":
                self._take(prepared)
        if how in ("silent", "lost"):
            raise Unknown("no answer")

    def _take(self, prepared: Prepared) -> None:
        if prepared.ref in self.book and self.capabilities.dedup:
            return
        self.effects[prepared.ref] += 1
        self.book[prepared.ref] = AtVenue(prepared.payload)
        if self.fills_at_once:
            self.fill(prepared.ref)

    def fill(
        self,
        ref: str,
        quantity: str = "",
        *,
        usd: str = "",
        fee: str = "0.5",
        fill_id: str = "",
        state: str = "",
    ) -> VenueFill:
        """Let some or all of an order execute."""
        known = self.book[ref]
        whole = Decimal(known.request["quantity"])
        amount = Decimal(quantity) if quantity else whole - sum((f.quantity for f in known.fills), Decimal(0))
        each = Decimal(usd or known.request["reference_price"])
        made = VenueFill(
            fill_id or f"{ref}-{len(known.fills)}", amount, each, amount * each, Decimal(fee), clock.now()
        )
        known.fills.append(made)
        filled = sum((f.quantity for f in known.fills), Decimal(0))
        known.state = state or ("filled" if filled >= whole else "partially_filled")
        return made

    def find(self, ref: str) -> Report | None:
        """Where the order stands, if it wants to say so."""
        how = self.finds.popleft() if self.finds else "ok"
        if how == "away":
            raise Retryable("the venue cannot be read")
        known = self.book.get(ref)
        hidden = known is not None and known.hidden_until is not None and clock.now() < known.hidden_until
        if known is None or how == "absent" or hidden:
            return None
        return Report(known.state, tuple(known.fills))

    def cancel(self, ref: str) -> None:
        """What is not filled is withdrawn."""
        self.book[ref].state = "canceled"

    def balances(self, account: str) -> dict[str, Decimal]:
        """Not kept."""
        return {}

    def expected_price(self, account: str, symbol: str, side: str, cash: Decimal) -> Decimal | None:
        """The quote; nothing where there is none."""
        quote = quotes.latest([symbol]).get(symbol)
        return quote.price if quote else None

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        """What the test says."""
        if isinstance(self.objection, Exception):
            raise self.objection
        return self.objection


@dataclass
class Recorded:
    """One request that the fake X received."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


NOT_FOUND = "https://api.x.com/2/problems/resource-not-found"
INVALID = "https://api.x.com/2/problems/invalid-request"


class FakeX:
    """A local HTTP server that speaks the X API v2: users by name, their posts, recent search, rate limits.

    Of a post it gives `id`, `text` and the ids of its edits, and what the request asks for: in `tweet.fields` by its
    old names, in `post.fields` by its new ones. A name that it does not know is left out without a word, as the API
    does it.
    """

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.posts: dict[str, list[Any]] = {}
        """User id -> whole items under their old names, newest first."""
        self.requests: list[Recorded] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        """Answers that go before the sensible one: status, headers, body."""
        self.headers: dict[str, str] = {}
        """Sent with every sensible answer."""
        self.oldest_found = 0
        """The smallest `since_id` that a search takes: ids of the last seven days."""
        self.url = ""

    def says(self, username: str, *items: Any) -> None:
        """Posts of one user, newest first."""
        user = self.users.setdefault(username, str(1000 + len(self.users)))
        self.posts[user] = [*items, *self.posts.get(user, [])]

    def answer(self, asked: Recorded) -> tuple[int, dict[str, str], bytes]:
        """What goes over the wire."""
        self.requests.append(asked)
        if self.answers:
            return self.answers.popleft()
        parts = asked.path.strip("/").split("/")
        if parts[:4] == ["2", "users", "by", "username"]:
            status, body = 200, self._user(parts[4])
        elif parts == ["2", "tweets", "search", "recent"]:
            status, body = self._found(asked.query)
        else:
            status, body = self._page(parts[2], asked.query)
        return status, self.headers, json.dumps(body).encode()

    def _user(self, name: str) -> dict[str, Any]:
        if user := self.users.get(name):
            return {"data": {"id": user, "name": name.title(), "username": name}}
        error = {"value": name, "detail": f"Could not find user with username: [{name}]."}
        error |= {"title": "Not Found Error", "resource_type": "user", "parameter": "username"}
        return {"errors": [error | {"resource_id": name, "type": NOT_FOUND}]}

    def _found(self, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Every post, of whomever, with all words of the query; as the API it refuses ids that are too old."""
        words = [word for word in query.get("query", "").lower().split() if not word.startswith("-")]
        items = [
            {"author_id": user, **one}
            for user, posts in self.posts.items()
            for one in posts
            if isinstance(one, dict)
        ]
        matching = [one for one in items if all(word in str(one.get("text", "")).lower() for word in words)]
        matching.sort(key=lambda one: int(one["id"]), reverse=True)
        oldest = int(query.get("since_id") or 0)
        if oldest and oldest < self.oldest_found:
            words_of_x = f"'since_id' must be a tweet id created after [{self.oldest_found}]"
            error = {"parameters": {"since_id": [str(oldest)]}, "message": words_of_x}
            detail = "One or more parameters to your request was invalid."
            return 400, {"errors": [error], "title": "Invalid Request", "detail": detail, "type": INVALID}
        if "start_time" in query:
            begin = datetime.fromisoformat(query["start_time"])
            matching = [one for one in matching if datetime.fromisoformat(one["created_at"]) >= begin]
        self.posts["search"] = matching
        try:
            asked = query | ({"pagination_token": query["next_token"]} if "next_token" in query else {})
            return self._page("search", asked, least=10)
        finally:
            del self.posts["search"]

    def _page(self, user: str, query: dict[str, str], least: int = 5) -> tuple[int, dict[str, Any]]:
        size = int(query.get("max_results", 10))
        if not least <= size <= 100:
            words = f"The `max_results` query parameter value [{size}] is not between {least} and 100"
            error = {"parameters": {"max_results": [str(size)]}, "message": words}
            detail = "One or more parameters to your request was invalid."
            return 400, {"errors": [error], "title": "Invalid Request", "detail": detail, "type": INVALID}
        first, last = (
            int(query.get("since_id") or 0),
            int(query["until_id"]) if "until_id" in query else math.inf,
        )
        items = [one for one in self.posts.get(user, []) if _within(one, first, last)]
        start = int(query.get("pagination_token", 0))
        page = items[start : start + size]
        meta: dict[str, Any] = {"result_count": len(page)}
        if page:
            ids = [str(one["id"]) for one in page if isinstance(one, dict) and one.get("id")]
            meta |= {"newest_id": ids[0], "oldest_id": ids[-1]} if ids else {}
        if start + size < len(items):
            meta["next_token"] = str(start + size)
        return 200, {"meta": meta} | ({"data": [_shown(one, query) for one in page]} if page else {})


def _within(item: Any, first: int, last: float) -> bool:
    """Whether its id lies between the two; what has none is always given."""
    return not isinstance(item, dict) or not item.get("id") or first < int(item["id"]) < last


def _shown(item: Any, query: dict[str, str]) -> Any:
    """The fields that the request asks for, and those that always come."""
    if not isinstance(item, dict):
        return item
    word = "post" if "post.fields" in query else "tweet"
    asked = {"id", "text", f"edit_history_{word}_ids", *query.get(f"{word}.fields", "").split(",")}
    whole = {"edit_history_tweet_ids": [item.get("id")], **item}
    named = {name.replace("tweet", word): value for name, value in whole.items()}
    return {name: value for name, value in named.items() if name in asked}


@contextmanager
def fake_x() -> Iterator[FakeX]:
    """A running one, on a port of the kernel's choice."""
    fake = FakeX()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlparse(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, headers, body = fake.answer(Recorded(url.path, query, dict(self.headers.items())))
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
