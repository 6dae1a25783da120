"""Interface of document sources: a source lists its items cheaply; each item is read on its own.

A source neither stores nor retries. Reading raises `Retryable` when a later sweep may succeed and `Rejected` when none
will.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True)
class Text:
    """The content of one item."""

    text: str
    title: str = ""
    known_at: datetime | None = None
    """UTC; decisions before this time do not see the text. Default: when it is first stored."""


@dataclass(frozen=True)
class Offer:
    """An item of a source that can be read."""

    uri: str
    read: Callable[[], Text]
    refresh: timedelta | None = None
    """Time between two reads; default: every sweep reads it."""


class Source(Protocol):
    """A configured source of documents."""

    def offers(self) -> Iterable[Offer]:
        """List the current items. Raises `Misconfigured` when the source's options are invalid."""
