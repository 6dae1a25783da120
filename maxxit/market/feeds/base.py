"""The interface that every price feed implements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, runtime_checkable

from maxxit.market.feeds.bars import Bar


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
    """A source of prices. `symbols` are Maxxit's; the feed knows its own names for them.

    Its `name` is the one in `config/feeds.yaml`, and the `source` of every tick it gives.
    """

    name: str

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """The newest price of each symbol it knows, as the source gave it: also an absurd one.

        Raises Retryable when the source does not answer, or not in its own format; Rejected when it says no.
        """
        ...


Page = tuple[datetime, list[Bar]]
"""Bars, and the moment before which nothing more will come."""


@runtime_checkable
class CandleFeed(Protocol):
    """A source that also knows the past."""

    name: str

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """Pages of five-minute bars that opened in [start, end), oldest page first, each in order.

        A page may hold no bars: its span had no trades. Raises as `quotes` does, and Rejected for an unknown symbol.
        """
        ...
