"""What a post source is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from maxxit.core.untrusted import storable


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as a source gave it."""

    post_id: str
    """A string, always: X's ids do not fit a float."""
    username: str
    text: str
    posted_at: datetime
    """UTC."""
    deleted: bool = False
    """The author took it back, at `posted_at`; the text says nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something in a source that was no post."""

    place: str
    """`file:line`, or the provider's id."""
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """What we hold of an account already."""

    since_id: str = ""
    """The newest post id, empty at first."""
    since: datetime | None = None
    """When that post was written, UTC."""
    until_id: str = ""
    """Go on with the posts older than this one: an earlier pass read what is newer, and not yet all down to
    `since_id`."""


MAX_TEXT = 25_000
"""Characters of the longest post that X allows."""


def unfit(post: RawPost) -> str:
    """Why a post cannot be kept as it is, or an empty string."""
    if len(post.text) > MAX_TEXT or len(post.post_id) > 40 or len(post.username) > 50:
        return "a field is too long: id 40, username 50, text 25000 characters at most"
    for value in (post.text, post.post_id, post.username):
        if value != storable(value):
            return "a field holds a NUL character or half a surrogate pair"
    return ""


class PostSource(Protocol):
    """A place where posts come from. It may offer a post again: ids are unique and a repeat adds nothing."""

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Posts of `username` after the cursor, oldest first.

        Raises Retryable (try again at the next pass) or Rejected (this account cannot be read).
        """
        ...

    def refused(self) -> Iterable[Refused]:
        """What `fetch` met that was no post. It may be named again: a place is written down once."""
        ...


@runtime_checkable
class Paged(Protocol):
    """A source that may end a `fetch` before it has read all down to the cursor."""

    def unread_below(self, username: str) -> str:
        """The oldest post id of the last `fetch` where older posts above its cursor are still unread; empty for none.

        Until they are read the cursor stays: it moves only over what was read.
        """
        ...
