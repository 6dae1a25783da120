"""Posts from X, in the shape of the X API v2 (https://docs.x.com/x-api), by one of two providers.

* `X`: api.x.com with a bearer token; each post read costs money (0.005 USD in 2026), and the same post read
  again within 24 hours is free.
* `GAME`: the Virtuals GAME proxy, which speaks the same shape with an `x-api-key` of the form `apx-…`.

Rate-limit headers are obeyed: when `x-rate-limit-remaining` reaches 0, nothing is asked before
`x-rate-limit-reset`.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import structlog
from django.core.cache import cache
from pydantic import AfterValidator, BaseModel, Field, ValidationError

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


class _Item(BaseModel):
    id: str = Field(pattern="^[0-9]+$")
    text: str = Field(min_length=1)
    created_at: Annotated[datetime, AfterValidator(clock.utc)]


class XSource:
    """Reads the newest posts of one account at a time."""

    def __init__(
        self,
        *,
        profile: str = "X",
        key_env: str = "X_BEARER_TOKEN",
        base_url: str = "",
        posts_per_account: int = 15,
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
        self.posts_per_account = posts_per_account
        self.usd_per_post, self.max_usd_per_day = Decimal(usd_per_post), Decimal(max_usd_per_day)
        self.http = http.client(base_url or url, headers={header: form.format(key=key)})
        self._refused: list[Refused] = []

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """The newest `posts_per_account` posts after `cursor.since_id`, oldest first."""
        self._hold_to_budget()
        query: dict[str, Any] = {
            "max_results": max(5, self.posts_per_account),  # the API takes 5 to 100
            "tweet.fields": "created_at",
        }
        if cursor.since_id:
            query["since_id"] = cursor.since_id
        items = self._get(f"/2/users/{self._user_id(username)}/tweets", query).get("data", [])
        if not isinstance(items, list):
            raise Retryable(f"{self.name}: the posts of @{username} are no list")
        items = items[: self.posts_per_account]
        self._meter(items)
        posts = [post for item in items if (post := self._post(username, item))]
        return sorted(posts, key=lambda post: (len(post.post_id), post.post_id))

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
        post = RawPost(good.id, username, good.text, good.created_at)
        if why := unfit(post):
            self._refused.append(
                Refused(f"{self.name}:{username}:{good.id}", why, str(redact.value(item))[:2000])
            )
            return None
        return post

    def _user_id(self, username: str) -> str:
        key = f"x:user:{username.lower()}"
        if not (found := cache.get(key)):
            data = self._get(f"/2/users/by/username/{username}", {}).get("data")
            if not data:
                raise Rejected(f"X knows no account @{username}", code="unknown_account")
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
            if later.after is not None:
                self._wait(later.after)
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

    def _hold_to_budget(self) -> None:
        if self.spent_today() >= self.max_usd_per_day:
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
