"""Post source for X by the X API v2 (https://docs.x.com/x-api), from one of two providers.

* `X`: api.x.com with a bearer token; each post read costs money (0.005 USD in 2026), and the same post read
  again within 24 hours is free.
* `GAME`: the Virtuals GAME proxy, which has the same API with an `x-api-key` of the form `apx-…`.

Rate limits are respected: when `x-rate-limit-remaining` reaches 0, no request is sent before `x-rate-limit-reset`, and
after a 429 without a reset time none for the usual window of 15 minutes. `concurrency` accounts are fetched at once;
where the requests in flight could exceed the rate limit or today's budget together, they wait for each other.

Long posts are read in full from `note_tweet`; a truncated text ("… https://t.co/…") without a full version is refused.
Pages are read down to the cursor, at most `posts_per_pass` posts; the next passes read the rest.

`queries` (name -> query) are read by recent search, under the same budget: an account of that name holds the posts of
everybody that match. They count as one author, but for the posts of accounts that are followed themselves: these are
theirs. The author's name comes from the ids of users that we asked for anyway: X charges for users beside posts.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog
from django.core.cache import cache

from maxxit.core import clock, http, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.sources.base import Cursor, RawPost, Refused, SourcePaused, SourceSpent
from signals_app.sources.x_items import FIELDS, Item, checked_queries, error_text, item_id, number, post_of

log = structlog.get_logger(__name__)

PROFILES = {
    "X": ("https://api.x.com", "authorization", "Bearer {key}"),
    "GAME": ("https://twitter.game.virtuals.io/twitter", "x-api-key", "{key}"),
}
WINDOW, DAY = 900, 86_400
"""Seconds: X's usual rate-limit window, and its longest."""
PAGE = 100
"""Maximum page size of the API."""
SEARCH = "/2/tweets/search/recent"
SEARCH_REACH = timedelta(days=6, hours=23)
"""How far back a recent search goes: seven days, less what clocks may differ."""
LEAST_FOUND = 10
"""Smallest page of a search."""
MOST_AT_ONCE = 32
"""The largest `concurrency`."""
USD_PER_POST = "0.005"
"""What X charges for one read in 2026, where the source's stanza names no price."""


class XSource:
    """Reads the newest posts of accounts; `fetch` may be called by several threads at once."""

    def __init__(  # noqa: PLR0913 (the options of a stanza)
        self,
        *,
        profile: str = "X",
        key_env: str = "X_BEARER_TOKEN",
        base_url: str = "",
        posts_per_account: int = 15,
        posts_per_pass: int = 300,
        usd_per_post: str = USD_PER_POST,
        max_usd_per_day: str = "5",
        concurrency: int = 4,
        queries: Mapping[str, str] | None = None,
    ) -> None:
        if profile not in PROFILES:
            raise Misconfigured(f"post source x: profile {profile!r} is not one of {', '.join(PROFILES)}")
        if not (key := variable(key_env)):
            raise Misconfigured(
                f"post source x: set {key_env}, or remove the source from config/signals.yaml"
            )
        if not isinstance(concurrency, int) or not 1 <= concurrency <= MOST_AT_ONCE:
            raise Misconfigured(
                f"post source x: concurrency {concurrency!r} is not a whole number from 1 to {MOST_AT_ONCE}"
            )
        self.queries = checked_queries("x", queries)
        if self.queries and profile != "X":
            raise Misconfigured(
                f"post source x: `queries` need the profile X; {profile} has no search that we know"
            )
        url, header, form = PROFILES[profile]
        self.name = profile.lower()
        self.posts_per_account, self.posts_per_pass = posts_per_account, posts_per_pass
        self._unread: dict[str, str] = {}
        self.usd_per_post, self.max_usd_per_day = Decimal(usd_per_post), Decimal(max_usd_per_day)
        self.http = http.client(base_url or url, headers={header: form.format(key=key)})
        self._refused: deque[Refused] = deque()
        self._page_size = max(5, min(posts_per_account, PAGE))  # the API takes 5 to 100
        self.concurrency = concurrency
        self._turn = threading.Condition()
        self._in_flight = 0
        self._remaining: int | None = None
        """What the last answer said of the rate limit."""

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch the posts after `cursor.since_id` (and before `cursor.until_id`), oldest first.

        Without a cursor the newest `posts_per_account`; otherwise every page down to the cursor, up to `posts_per_pass`
        posts and today's budget (`unread_below` tells where it stopped).
        """
        self._hold_to_budget()
        self._unread.pop(username, None)
        path, query = self._what(username, cursor)
        read: list[Any] = []
        counted = 0
        while True:
            try:
                items, token = self._page(username, path, query)
            except SourceSpent:  # another thread spent the rest meanwhile
                if not read:
                    raise
                self._stop(username, read)
                break
            read += items
            counted += max(1, len(items))  # an empty page counts too: it may name a next one for ever
            if not token or not cursor.since_id:
                break
            if counted >= self.posts_per_pass or self._budget_is_spent():
                self._stop(username, read)
                break
            query["next_token" if path == SEARCH else "pagination_token"] = token
        if not cursor.since_id:
            read = read[: self.posts_per_account]
        posts = [post for item in read if (post := self._post(username, item))]
        return sorted(posts, key=lambda post: number(post.post_id))

    def _what(self, username: str, cursor: Cursor) -> tuple[str, dict[str, Any]]:
        """Return path and parameters of the first page: the posts of an account, or those that match its query."""
        query: dict[str, Any] = {"max_results": self._page_size, "tweet.fields": FIELDS}
        query |= {name: value for name in ("since_id", "until_id") if (value := getattr(cursor, name))}
        if (wanted := self.queries.get(username.lower())) is None:
            return f"/2/users/{self._user_id(username)}/tweets", query
        query |= {"query": wanted, "max_results": max(self._page_size, LEAST_FOUND)}
        reach = clock.now() - SEARCH_REACH
        if cursor.since and cursor.since < reach:  # X refuses an id that is older than what it searches
            query.pop("since_id", None)
            query["start_time"] = f"{reach:%Y-%m-%dT%H:%M:%SZ}"
        return SEARCH, query

    def _stop(self, username: str, read: list[Any]) -> None:
        """Note that posts older than those read are left to the next pass."""
        ids = (item_id(item) for item in read if item_id(item))
        self._unread[username] = min(ids, key=number, default="")
        log.warning("posts_unread", provider=self.name, account=username, read=len(read))

    def unread_below(self, username: str) -> str:
        """Return the oldest id of the last `fetch` if it stopped above the cursor; empty otherwise."""
        return self._unread.get(username, "")

    def _page(self, username: str, path: str, query: dict[str, Any]) -> tuple[list[Any], str]:
        """Fetch one page: its items and the token of the next page. Raises Rejected with the provider's message."""
        with self._request():
            self._hold_to_budget()
            body = self._get(path, query)
            items = body.get("data", [])
            if not isinstance(items, list):
                raise Retryable(f"{self.name}: the posts of @{username} are not a list")
            if "data" not in body and (why := error_text(body)):
                raise Rejected(f"{self.name} refuses the posts of @{username}: {why}", code="not_readable")
            self._meter(items)
        meta = body.get("meta")
        token = meta.get("next_token") if isinstance(meta, dict) else None
        return items, token if isinstance(token, str) else ""

    def refused(self) -> Iterable[Refused]:
        """Return the invalid items since the last call."""
        while self._refused:
            yield self._refused.popleft()

    def spent_today(self) -> Decimal:
        """Return the USD spent on reads since midnight UTC."""
        return Decimal(cache.get(self._spent_key(), 0)) * self.usd_per_post

    def _post(self, username: str, item: Any) -> RawPost | None:
        post = post_of(item, username, partial(self._author, username), provider=self.name)
        if isinstance(post, Refused):
            self._refused.append(post)
            return None
        return post

    def _author(self, username: str, item: Item) -> str:
        """Return who wrote a post; of what a query found, only a user whose id we asked for, else empty."""
        if username.lower() not in self.queries:
            return username
        return str(cache.get(_name_key(item.author_id), "")) if item.author_id else ""

    def _user_id(self, username: str) -> str:
        key = f"x:user:{username.lower()}"
        if not (user_id := cache.get(key)):
            with self._request():
                body = self._get(f"/2/users/by/username/{username}", {})
            data = body.get("data")
            if not data:
                why = error_text(body) or "there is no such account"
                raise Rejected(f"{self.name} does not know @{username}: {why}", code="unknown_account")
            if not isinstance(data, dict) or not isinstance(data.get("id"), str):
                raise Retryable(f"{self.name}: the answer for @{username} has no id")
            user_id = data["id"]
            cache.set(key, user_id, timeout=30 * DAY)
        cache.set(_name_key(user_id), username, timeout=30 * DAY)
        return str(user_id)

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Count a request as in flight; wait before it while it could exceed a limit together with the others."""
        with self._turn:
            self._turn.wait_for(self._may_send)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._turn:
                self._in_flight -= 1
                self._turn.notify_all()

    def _may_send(self) -> bool:
        """Return whether another request stays within rate limit and budget, whatever those in flight cost."""
        if not self._in_flight:
            return True
        if self._remaining is not None and self._in_flight >= self._remaining:
            return False
        in_flight_usd = self._in_flight * self._page_size * self.usd_per_post
        return self.spent_today() + in_flight_usd < self.max_usd_per_day

    def _get(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        until = cache.get(self._wait_key(path))
        if until and until > clock.now().timestamp():
            raise SourcePaused(
                f"{self.name}: the rate limit resets at {datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC"
            )
        try:
            response = http.fetch(self.http, "GET", path, params=query)
        except Retryable as later:
            pause = WINDOW if later.limited and later.after is None else later.after
            if pause is not None:
                self._wait(path, pause)
            raise
        remaining = response.headers.get("x-rate-limit-remaining", "")
        self._remaining = int(remaining) if remaining.isdecimal() else None
        if remaining == "0":
            reset = response.headers.get("x-rate-limit-reset", "")
            self._wait(path, float(reset) - clock.now().timestamp() if reset.isdecimal() else WINDOW)
        try:
            body = untrusted.loads(response.content)
        except ValueError as error:
            raise Retryable(f"{self.name}: the answer is not JSON") from error
        if not isinstance(body, dict) or not isinstance(body.get("data", []), list | dict):
            raise Retryable(f"{self.name}: the answer does not have the format of X API v2")
        return body

    def _wait_key(self, path: str) -> str:
        """Return the key of a wait: X limits searches and everything else apart."""
        return f"x:wait:{self.name}:search" if path == SEARCH else f"x:wait:{self.name}"

    def _wait(self, path: str, seconds: float) -> None:
        """Send no request of this kind in the next `seconds` (at most a day, X's longest window)."""
        pause = max(1, math.ceil(min(seconds, DAY)))
        cache.set(self._wait_key(path), clock.now().timestamp() + pause, timeout=pause)

    def _spent_key(self) -> str:
        return f"x:reads:{self.name}:{clock.now():%Y-%m-%d}"

    def _budget_is_spent(self) -> bool:
        return self.spent_today() >= self.max_usd_per_day

    def _hold_to_budget(self) -> None:
        if self._budget_is_spent():
            raise SourceSpent(f"{self.name}: today's budget of {self.max_usd_per_day} USD is spent")

    def _meter(self, items: list[Any]) -> None:
        """Count the reads that cost money: a post read again within 24 hours is free."""
        ids = [str(item.get("id")) for item in items if isinstance(item, dict)]
        new = [
            post_id
            for post_id in ids
            if post_id.isdecimal() and cache.add(f"x:read:{post_id[:40]}", 1, timeout=DAY)
        ]
        cache.add(self._spent_key(), 0, timeout=2 * DAY)
        total = cache.incr(self._spent_key(), len(new))
        log.info(
            "x_reads",
            provider=self.name,
            posts=len(new),
            today=total,
            usd_today=str(total * self.usd_per_post),
        )


def _name_key(user_id: str) -> str:
    return f"x:name:{user_id[:40]}"
