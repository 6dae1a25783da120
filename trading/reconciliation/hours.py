"""Which venues trade stocks, and whether their market is open. Crypto never closes."""

from datetime import datetime

from maxxit.market import calendar
from maxxit.market.instruments import listed_on
from maxxit.market.venues import venues
from trading.venues.base import Venue
from trading.wiring import capability, venue


def stocks_of(venue_name: str) -> frozenset[str]:
    """Return the symbols that the venue trades as stocks, in market hours only."""
    return frozenset(getattr(venue(venue_name), "stocks", ()))


def closed_symbols(venue_name: str, at: datetime) -> frozenset[str]:
    """Return the symbols of the venue whose market is closed."""
    stocks = stocks_of(venue_name)
    return stocks if stocks and not calendar.is_open(at) else frozenset()


def is_wholly_closed(venue_name: str, at: datetime) -> bool:
    """Return whether every symbol that the venue lists is a stock, and the exchange is closed."""
    return trades_only_stocks(venue_name) and not calendar.is_open(at)


def trades_only_stocks(venue_name: str) -> bool:
    """Return whether every symbol that the venue lists is a stock."""
    stocks = stocks_of(venue_name)
    return bool(stocks) and stocks.issuperset(listed_on(venue_name))


def venues_of(*, stocks: bool) -> list[str]:
    """Return the venues that trade stocks, or those that trade anything else, by name.

    A venue that cannot be opened counts as one without stocks: its own accounts fail alone.
    """

    def trades(one: Venue) -> bool:
        return bool(stocks_of(one.name)) if stocks else not trades_only_stocks(one.name)

    return [name for name in sorted(venues()) if capability(name, trades, default=not stocks)]
