"""The protocol of post sources, and the raw posts and cursors they exchange with the ingest stage."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Protocol, runtime_checkable

from maxxit.core.errors import Misconfigured, Retryable
from maxxit.core.untrusted import storable


@dataclass(frozen=True, slots=True)
class Engagement:
    """How many reactions a post had when a source delivered it; None where the source gives no figure."""

    likes: int | None = None
    reposts: int | None = None
    replies: int | None = None
    quotes: int | None = None


NO_ENGAGEMENT = Engagement()


@dataclass(frozen=True, slots=True)
class StatedCall:
    """A call that its sender states in fields, so that no reader has to find it in the text."""

    token: str
    """A symbol of config/markets.yaml."""
    side: str
    """long or short."""
    confidence: Decimal
    """Fraction."""


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as a source delivered it."""

    post_id: str
    """Always a string: X's ids do not fit a float."""
    username: str
    text: str
    posted_at: datetime
    """UTC."""
    deleted: bool = False
    """The author deleted the post at `posted_at`; the text is empty."""
    engagement: Engagement = NO_ENGAGEMENT
    link: str = ""
    """Where people read it: an http(s) URL, else empty (`web_link`)."""
    call: StatedCall | None = None
    author: str = ""
    """Who wrote it, where the source knows: a search finds posts of accounts that are followed themselves."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An item of a source that could not be read as a post."""

    place: str
    """`file:line`, or the provider's id."""
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an account has been read."""

    since_id: str = ""
    """Id of the newest stored post; empty at first."""
    since: datetime | None = None
    """When that post was written, UTC."""
    until_id: str = ""
    """Continue with posts older than this one: an earlier pass read the newer ones and stopped before `since_id`."""


MAX_TEXT = 25_000
"""Characters of the longest post that X allows."""


EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""No post that anybody follows is older: an earlier time is an error of its source."""


NAME = re.compile(r"[A-Za-z0-9_]{1,15}")
"""Names of feeds, channels and queries in config/signals.yaml: as user names of X, so that agents follow them alike."""
MAX_LINK = 500
MAX_COUNT = 2**31 - 1
"""What the columns hold."""


def check_names(kind: str, names: Iterable[str]) -> None:
    """Raise Misconfigured for a name of a feed, channel or query that no account can have."""
    for name in names:
        if not NAME.fullmatch(str(name)):
            raise Misconfigured(
                f"{kind} {name!r}: a name has 1 to 15 letters, digits or underscores (config/signals.yaml)"
            )


def web_link(value: object) -> str:
    """Return `value` if it is an http(s) URL that can be stored, else an empty string."""
    fits = isinstance(value, str) and len(value) <= MAX_LINK and value == storable(value)
    return str(value) if fits and re.match(r"https?://[^\s<>\"']+\Z", str(value)) else ""


def count(value: object) -> int | None:
    """Return a number of reactions; None for what is no whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return None
    return min(value, MAX_COUNT)


def engagement_of(item: Mapping[str, object]) -> Engagement:
    """Return the figures of an item that names them `likes`, `reposts`, `replies` and `quotes`."""
    return Engagement(*(count(item.get(name)) for name in ("likes", "reposts", "replies", "quotes")))


def derived_id(prefix: str, *parts: str) -> str:
    """Return a post id of 40 characters at most for a source whose own ids are long or not unique over sources."""
    return prefix + sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[: 40 - len(prefix)]


def unfit(post: RawPost) -> str:
    """Return why a post cannot be stored, or an empty string."""
    if len(post.text) > MAX_TEXT or len(post.post_id) > 40 or len(post.username) > 50:
        return "a field is too long: the maximum is 40 characters for id, 50 for username, 25000 for text"
    for value in (post.text, post.post_id, post.username):
        if value != storable(value):
            return "a field contains a NUL character or an unpaired surrogate"
    if post.posted_at < EARLIEST:
        return f"the time (created_at, published or date) is before {EARLIEST:%Y}: {post.posted_at.date()}"
    return ""


class PostSource(Protocol):
    """A source of posts. It may return a post again: ids are unique, and a repeat is ignored."""

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Fetch the posts of `username` after the cursor, oldest first.

        Raises Retryable (try again at the next pass) or Rejected (this account cannot be read).
        """
        ...

    def refused(self) -> Iterable[Refused]:
        """Return the items of `fetch` that were no post. Repeats are ignored: each place is stored once."""
        ...


@runtime_checkable
class Paged(Protocol):
    """A source whose `fetch` may stop before it reaches the cursor."""

    def unread_below(self, username: str) -> str:
        """Return the oldest post id of the last `fetch` if it stopped above the cursor; empty otherwise.

        The cursor does not move until the posts between are read.
        """
        ...


@runtime_checkable
class RemoteSource(Protocol):
    """A source behind a network: several accounts are fetched at once, in threads, the most followed first."""

    concurrency: int
    """How many accounts may be fetched at once. 1: one after another, in the caller's thread."""


@runtime_checkable
class Unmetered(Protocol):
    """A source whose reading costs nothing: it is read every few minutes, the others with the pipeline."""

    unmetered: bool


class Unopened:
    """A post source that an operator must mend before it can be opened: none of its accounts is read."""

    def __init__(self, error: Misconfigured) -> None:
        self.error = error

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Raise the error that kept the source from being opened."""
        raise self.error

    def refused(self) -> Iterable[Refused]:
        """Return nothing."""
        return ()


class SourcePaused(Retryable):
    """The source serves no account now: its rate limit is used up."""


class SourceSpent(SourcePaused):
    """The source serves no account until tomorrow: today's budget is used up."""
