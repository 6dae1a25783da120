"""Posts from X, in the shape of the X API v2 (https://docs.x.com/x-api), by one of two providers.

* `X`: api.x.com with a bearer token; each post read costs money (0.005 USD in 2026), and the same post read
  again within 24 hours is free.
* `GAME`: the Virtuals GAME proxy, which speaks the same shape with an `x-api-key` of the form `apx-…`.

Rate limits are obeyed: when `x-rate-limit-remaining` reaches 0, nothing is asked before `x-rate-limit-reset`, and after
a 429 that names no moment nothing for the usual window of 15 minutes.

Long posts come whole, as `note_tweet`; a text that the provider cut ("… https://t.co/…") and has no whole form is
refused. Pages are followed down to the cursor, `posts_per_pass` at most; what is left is read by the next passes.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import structlog
from django.core.cache import cache
from pydantic import AfterValidator, AliasChoices, BaseModel, Field, ValidationError

from maxxit.core import clock, http, redact, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from signals_app.sources.base import Cursor, RawPost, Refused, unfit

log = structlog.get_logger(__name__)

PROFILES = {
    "X": ("https://api.x.com", "authorization", "Bearer {key}"),
    "GAME": ("https://twitter.game.virtuals.io/twitter", "x-api-key", "{key}"),
}
WINDOW, DAY = 900, 86_400
"""Seconds: X's usual window of a rate limit, and its longest."""
PAGE = 100
"""Posts in the largest page of the API."""
_CUT = re.compile(r"…(?:\s*https://t\.co/\w+)?\s*$")
_REPOST = re.compile(r"^RT @\w+:")
LONGEST_WITHOUT_CUT = 270
"""Characters: a shorter text that ends in "…" was written so."""


class _Note(BaseModel):
    text: str = Field(min_length=1)


class _Item(BaseModel):
    id: str = Field(pattern="^[0-9]+$")
    text: str = Field(min_length=1)
    created_at: Annotated[datetime, AfterValidator(clock.utc)]
    note_tweet: _Note | None = Field(default=None, validation_alias=AliasChoices("note_tweet", "note_post"))
    """The whole of a long post. X calls it `note_post` where the request speaks of posts and not of tweets."""

    @property
    def whole(self) -> str:
        """The text of a long post, else the text."""
        return self.note_tweet.text if self.note_tweet else self.text

    @property
    def cut(self) -> bool:
        """Whether the provider shortened it. A repost always is, and is no post of its own anyway."""
        whole = self.whole
        return len(whole) >= LONGEST_WITHOUT_CUT and bool(_CUT.search(whole)) and not _REPOST.match(whole)


class XSource:
    """Reads the newest posts of one account at a time."""

    def __init__(
        self,
        *,
        profile: str = "X",
        key_env: str = "X_BEARER_TOKEN",
        base_url: str = "",
        posts_per_account: int = 15,
        posts_per_pass: int = 300,
        usd_per_post: str = "0.005",
        max_usd_per_day: str = "5",
    ) -> None:
        if profile not in PROFILES:
            raise Misconfigured(f"post source x: profile {profile!r} is not one of {', '.join(PROFILES)}")
        if not (key := variable(key_env)):
            raise Misconfigured(
                f"post source x: set {key_env}, or take the source out of config/signals.yaml"
            )
        url, header, form = PROFILES[profile]
        self.name = profile.lower()
        self.posts_per_account, self.posts_per_pass = posts_per_account, posts_per_pass
        self._unread: dict[str, str] = {}
        self.usd_per_post, self.max_usd_per_day = Decimal(usd_per_post), Decimal(max_usd_per_day)
        self.http = http.client(base_url or url, headers={header: form.format(key=key)})
        self._refused: list[Refused] = []

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """The posts after `cursor.since_id` (and before `cursor.until_id`), oldest first.

        Of an account without a cursor the newest `posts_per_account`; otherwise every page down to the cursor, up to
        `posts_per_pass` posts and today's budget (`unread_below` tells what is left).
        """
        self._hold_to_budget()
        self._unread.pop(username, None)
        path = f"/2/users/{self._user_id(username)}/tweets"
        query: dict[str, Any] = {
            "max_results": max(5, min(self.posts_per_account, PAGE)),  # the API takes 5 to 100
            "tweet.fields": "created_at,note_tweet",
        }
        query |= {name: value for name in ("since_id", "until_id") if (value := getattr(cursor, name))}
        read: list[Any] = []
        places = 0
        while True:
            items, token = self._page(username, path, query)
            read += items
            places += max(1, len(items))  # a page may be empty and name a next one, without end
            if not token or not cursor.since_id:
                break
            if places >= self.posts_per_pass or self._budget_is_spent():
                self._unread[username] = min((_id(one) for one in read if _id(one)), key=_number, default="")
                log.warning("posts_unread", provider=self.name, account=username, read=len(read))
                break
            query["pagination_token"] = token
        if not cursor.since_id:
            read = read[: self.posts_per_account]
        posts = [post for item in read if (post := self._post(username, item))]
        return sorted(posts, key=lambda post: _number(post.post_id))

    def unread_below(self, username: str) -> str:
        """The oldest id of the last `fetch` where the pass ended before the cursor was reached."""
        return self._unread.get(username, "")

    def _page(self, username: str, path: str, query: dict[str, Any]) -> tuple[list[Any], str]:
        """The items of one page and the token of the next. Raises Rejected with the provider's words."""
        body = self._get(path, query)
        items = body.get("data", [])
        if not isinstance(items, list):
            raise Retryable(f"{self.name}: the posts of @{username} are no list")
        if "data" not in body and (why := _words(body)):
            raise Rejected(f"{self.name} does not give the posts of @{username}: {why}", code="not_readable")
        self._meter(items)
        meta = body.get("meta")
        token = meta.get("next_token") if isinstance(meta, dict) else None
        return items, token if isinstance(token, str) else ""

    def refused(self) -> Iterable[Refused]:
        """Items that were no post, of the answers since this was asked last."""
        met, self._refused = self._refused, []
        return met

    def spent_today(self) -> Decimal:
        """USD spent on reads since midnight UTC."""
        return Decimal(cache.get(self._spent_key(), 0)) * self.usd_per_post

    def _post(self, username: str, item: Any) -> RawPost | None:
        try:
            good = _Item.model_validate(item, strict=False)
        except ValidationError as error:
            place = str(item.get("id", "?") if isinstance(item, dict) else "?")
            self._refused.append(
                Refused(
                    f"{self.name}:{username}:{place}",
                    redact.text(str(error))[:300],
                    str(redact.value(item))[:2000],
                )
            )
            return None
        post = RawPost(good.id, username, good.whole, good.created_at)
        if why := unfit(post) or ("the provider cut its text and gave no whole one" if good.cut else ""):
            self._refused.append(
                Refused(f"{self.name}:{username}:{good.id}", why, str(redact.value(item))[:2000])
            )
            return None
        return post

    def _user_id(self, username: str) -> str:
        key = f"x:user:{username.lower()}"
        if not (found := cache.get(key)):
            body = self._get(f"/2/users/by/username/{username}", {})
            data = body.get("data")
            if not data:
                why = _words(body) or "it names no such account"
                raise Rejected(f"{self.name} does not know @{username}: {why}", code="unknown_account")
            if not isinstance(data, dict) or not isinstance(data.get("id"), str):
                raise Retryable(f"{self.name}: the answer for @{username} has no id")
            found = data["id"]
            cache.set(key, found, timeout=30 * DAY)
        return str(found)

    def _get(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        until = cache.get(f"x:wait:{self.name}")
        if until and until > clock.now().timestamp():
            raise Retryable(
                f"{self.name}: the rate limit resets at {datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC"
            )
        try:
            response = http.fetch(self.http, "GET", path, params=query)
        except Retryable as later:
            pause = WINDOW if later.limited and later.after is None else later.after
            if pause is not None:
                self._wait(pause)
            raise
        if response.headers.get("x-rate-limit-remaining") == "0":
            reset = response.headers.get("x-rate-limit-reset", "")
            self._wait(float(reset) - clock.now().timestamp() if reset.isdecimal() else WINDOW)
        try:
            body = untrusted.loads(response.content)
        except ValueError as error:
            raise Retryable(f"{self.name}: the answer is not JSON") from error
        if not isinstance(body, dict) or not isinstance(body.get("data", []), list | dict):
            raise Retryable(f"{self.name}: the answer has not the shape of X API v2")
        return body

    def _wait(self, seconds: float) -> None:
        """Ask nothing, for any account, in the next `seconds` (at most a day: X's longest window)."""
        pause = max(1, math.ceil(min(seconds, DAY)))
        cache.set(f"x:wait:{self.name}", clock.now().timestamp() + pause, timeout=pause)

    def _spent_key(self) -> str:
        return f"x:reads:{self.name}:{clock.now():%Y-%m-%d}"

    def _budget_is_spent(self) -> bool:
        return self.spent_today() >= self.max_usd_per_day

    def _hold_to_budget(self) -> None:
        if self._budget_is_spent():
            raise Retryable(f"{self.name}: today's budget of {self.max_usd_per_day} USD is spent")

    def _meter(self, items: list[Any]) -> None:
        """Count the reads that cost money: a post read before within 24 hours does not."""
        ids = [str(item.get("id")) for item in items if isinstance(item, dict)]
        new = [one for one in ids if one.isdecimal() and cache.add(f"x:read:{one[:40]}", 1, timeout=DAY)]
        cache.add(self._spent_key(), 0, timeout=2 * DAY)
        total = cache.incr(self._spent_key(), len(new))
        log.info(
            "x_reads",
            provider=self.name,
            posts=len(new),
            today=total,
            usd_today=str(total * self.usd_per_post),
        )


def _words(body: dict[str, Any]) -> str:
    """What the provider says in `errors`, or an empty string."""
    errors = body.get("errors")
    said = [
        ": ".join(str(one[name]) for name in ("title", "detail") if one.get(name))
        or str(one.get("message", ""))
        for one in (errors if isinstance(errors, list) else [])
        if isinstance(one, dict)
    ]
    return redact.text("; ".join(filter(None, said)))[:300]


def _id(item: Any) -> str:
    found = item.get("id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and found.isdecimal() else ""


def _number(post_id: str) -> tuple[int, str]:
    """Ids in the order of their numbers."""
    return len(post_id), post_id
