"""The newest price of each symbol, and whether it may be used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.config import Policy, Seconds, load
from maxxit.events import wake
from maxxit.market.feeds import FEEDS, PriceFeed
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Quote as QuoteRow

CLOCK_SKEW = timedelta(seconds=5)
"""A source's clock may run this far ahead of ours before we disbelieve it."""


class _Feeds(Policy):
    order: tuple[str, ...]
    max_age_seconds: Seconds
    feeds: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Quote:
    """An accepted price."""

    symbol: str
    price: Decimal
    """USD."""
    at: datetime
    source: str


def max_age() -> timedelta:
    """A quote older than this may open and close nothing."""
    return timedelta(seconds=load("feeds", _Feeds).max_age_seconds)


@cache
def open_feeds() -> tuple[PriceFeed, ...]:
    """The configured feeds, the preferred first. Raises `Misconfigured` for an unknown one."""
    policy = load("feeds", _Feeds)
    return tuple(FEEDS.open(**policy.feeds[name]) for name in policy.order)


def unusable(price: Decimal, at: datetime, now: datetime) -> str:
    """Why a price may not be used, or an empty string. Pure."""
    if not price.is_finite() or price <= 0:
        return "not_positive"
    if at > now + CLOCK_SKEW:
        return "from_the_future"
    if now - at > max_age():
        return "stale"
    return ""


def latest(symbols: Sequence[str]) -> dict[str, Quote]:
    """The usable quotes of `symbols`: fresh and positive. A symbol without one is missing from the answer."""
    now = clock.now()
    rows = QuoteRow.objects.filter(symbol__in=symbols)
    return {
        row.symbol: Quote(row.symbol, row.price, row.at, row.source)
        for row in rows
        if not unusable(row.price, row.at, now)
    }


UPSERT = """
INSERT INTO quotes (symbol, price, at, source)
SELECT * FROM unnest(%s::text[], %s::numeric[], %s::timestamptz[], %s::text[])
ON CONFLICT (symbol) DO UPDATE SET price = excluded.price, at = excluded.at, source = excluded.source
WHERE quotes.at < excluded.at
RETURNING symbol
"""


def accept(ticks: Iterable[Tick]) -> list[str]:
    """Store the usable ones of `ticks` where they are newer than what we hold; return the symbols that moved."""
    now = clock.now()
    good = [tick for tick in ticks if not unusable(tick.price, tick.at, now)]
    if not good:
        return []
    columns = ([t.symbol for t in good], [t.price for t in good], [t.at for t in good], [t.source for t in good])
    with connection.cursor() as cursor:
        cursor.execute(UPSERT, columns)
        moved = [symbol for (symbol,) in cursor.fetchall()]
    if moved:
        wake.after_commit("quotes.moved")
    return moved
