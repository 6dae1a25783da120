"""What a post source is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RawPost:
    """A post as a source gave it."""

    post_id: str
    """A string, always: X's ids do not fit a float."""
    username: str
    text: str
    posted_at: datetime
    """UTC."""


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


class PostSource(Protocol):
    """A place where posts come from. It may offer a post again: ids are unique and a repeat adds nothing."""

    def fetch(self, username: str, cursor: Cursor) -> Iterable[RawPost]:
        """Posts of `username` after the cursor, oldest first.

        Raises Retryable (try again at the next pass) or Rejected (this account cannot be read).
        """
        ...

    def refused(self) -> Iterable[Refused]:
        """What `fetch` met so far that was no post."""
        ...
