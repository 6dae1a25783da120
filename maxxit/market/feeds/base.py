"""What a price feed is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tick:
    """A price as a source gave it: not yet judged."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    """When the source says it was true, UTC."""
    source: str
    confidence: Decimal | None = None
    """USD either side of the price within which the source is sure; None where it says nothing."""


class PriceFeed(Protocol):
    """A source of prices. `symbols` are Maxxit's; the feed knows its own names for them."""

    name: str

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """The newest price of each symbol it knows. Raises Retryable when the source does not answer."""
        ...
