"""A source: offers that are cheap to list, each of which can be read. It neither stores nor retries.

Reading raises `Retryable` where a later sweep may do better and `Rejected` where none will.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True)
class Text:
    """What one item says."""

    text: str
    title: str = ""
    known_at: datetime | None = None
    """From when on a decision may use it; by default the moment at which it was first stored."""


@dataclass(frozen=True)
class Offer:
    """One item."""

    uri: str
    read: Callable[[], Text]
    refresh: timedelta | None = None
    """How long a look lasts; by default each sweep looks again."""


class Source(Protocol):
    """One place with documents."""

    def offers(self) -> Iterable[Offer]:
        """Every item that is there now. Raises `Misconfigured` when the place itself is not."""
