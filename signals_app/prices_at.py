"""Prices of the tokens named in a post at the time it was written, to tell whether a target is above or below."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from maxxit.core import clock
from maxxit.market import candles, quotes
from signals_app.reading.rules.read import CHECKED_VERSION, Reader

RECENT = timedelta(minutes=15)
"""Maximum age of a post for which the present quote may stand in."""


def prices_at(
    posts: Sequence[tuple[str, datetime]], tokens: Mapping[str, Sequence[str]]
) -> list[dict[str, Decimal]]:
    """Return for each (text, written at) the known USD prices of its listed tokens and of bitcoin.

    The price is the last five-minute close known by then; for a recent post without one, the present quote.
    """
    reader = Reader.of(tokens, CHECKED_VERSION)
    named = [sorted(reader.priced(text)) for text, _ in posts]
    wanted = [(symbol, at) for symbols, (_, at) in zip(named, posts, strict=True) for symbol in symbols]
    if not wanted:
        return [{} for _ in posts]
    closed = iter(candles.closes(wanted))
    found = [{symbol: next(closed) for symbol in symbols} for symbols in named]
    now = _quoted(
        symbol
        for prices, (_, at) in zip(found, posts, strict=True)
        if clock.now() - at <= RECENT
        for symbol, price in prices.items()
        if price is None
    )
    return [
        {
            symbol: known
            for symbol, price in prices.items()
            if (known := price or (now.get(symbol) if clock.now() - at <= RECENT else None))
        }
        for prices, (_, at) in zip(found, posts, strict=True)
    ]


def _quoted(symbols: Iterable[str]) -> dict[str, Decimal]:
    wanted = sorted(set(symbols))
    return {symbol: quote.price for symbol, quote in quotes.latest(wanted).items()} if wanted else {}
