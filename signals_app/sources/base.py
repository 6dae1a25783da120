"""The protocol of post sources, and the raw posts and cursors they exchange with the ingest stage."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from maxxit.core.errors import Retryable
from maxxit.core.untrusted import storable


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


def unfit(post: RawPost) -> str:
    """Return why a post cannot be stored, or an empty string."""
    if len(post.text) > MAX_TEXT or len(post.post_id) > 40 or len(post.username) > 50:
        return "a field is too long: the maximum is 40 characters for id, 50 for username, 25000 for text"
    for value in (post.text, post.post_id, post.username):
        if value != storable(value):
            return "a field contains a NUL character or an unpaired surrogate"
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


class SourcePaused(Retryable):
    """The source serves no account now: its rate limit is used up."""


class SourceSpent(SourcePaused):
    """The source serves no account until tomorrow: today's budget is used up."""
