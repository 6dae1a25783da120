"""What a source of social metrics gives."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SocialReading:
    """The metrics of one token at one time."""

    symbol: str
    galaxy_score: Decimal
    """0 to 100."""
    sentiment_pct: Decimal
    """Percent of the weighted posts that are positive."""
    social_volume: int
    """Posts in the last 24 hours."""
    price_change_pct: Decimal
    """Percent in the last 24 hours."""
    alt_rank: int
    """1 is the best."""


class SocialSource(Protocol):
    """A source of social metrics."""

    def readings(self, symbols: Collection[str]) -> list[SocialReading]:
        """Return the metrics of those of `symbols` that the source knows.

        Raises Retryable or Rejected. An item that is invalid is left out and logged.
        """
        ...
