"""The interface that every price feed implements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, runtime_checkable

from maxxit.market.feeds.bars import Bar


@dataclass(frozen=True, slots=True)
class Tick:
    """A price as received from a source, not yet validated."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    """UTC; time of the price, as stated by the source."""
    source: str
    confidence: Decimal | None = None
    """USD; half-width of the source's confidence interval; None if it states none."""


class PriceFeed(Protocol):
    """A source of prices. `symbols` are Maxxit's; the feed maps them to its own names.

    Its `name` is the one in `config/feeds.yaml`, and the `source` of its ticks.
    """

    name: str

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Return the newest price of each symbol it knows, as received, including invalid prices.

        Raises Retryable when the source does not answer or its answer is malformed; Rejected when it refuses.
        """
        ...


FUNDING_HOURS = 8
"""Funding rates are stated for this long, as most exchanges do, however often a venue charges them."""


class FundingSource(Protocol):
    """A source of funding rates. Its `name` is the one in `config/feeds.yaml`."""

    name: str

    def funding_rates(self, symbols: Sequence[str]) -> dict[str, Decimal]:
        """Return the present rates of the symbols that it knows, percent of `FUNDING_HOURS`; positive: longs pay.

        Raises Retryable when the source does not answer or its answer is malformed; Rejected when it refuses.
        """
        ...


Page = tuple[datetime, list[Bar]]
"""(end of the page's span, its bars)."""


@runtime_checkable
class CandleFeed(Protocol):
    """A source of historical candles."""

    name: str

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """Yield pages of five-minute bars opened in [start, end), oldest page first, each in order.

        A page may be empty if its span had no trades. Raises as `quotes` does, and Rejected for an unknown symbol.
        """
        ...
