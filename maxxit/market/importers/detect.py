"""Find out which format a candle file has, and of which token it is."""

import re
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.core.files import head
from maxxit.market.importers import IMPORTERS
from maxxit.market.instruments import Instrument, all_instruments, instrument

QUOTES = ("", "USD", "USDT", "USDC", "BUSD", "FDUSD", "UST")
"""Currencies that a pair's name may end with and that count as USD."""
LAST = "columns"
"""The format that is tried last: it takes nearly every header."""


def format_of(path: Path) -> str:
    """Detect the format from the file's first lines. Raises `Misconfigured` with the known formats."""
    begins = head(path)
    if not begins.strip():
        raise Misconfigured(f"{path} is empty")
    fits = [name for name in IMPORTERS if name != LAST and IMPORTERS.open(name).sniff(begins)]
    if not fits and IMPORTERS.open(LAST).sniff(begins):
        return LAST
    if len(fits) != 1:
        known = ", ".join(sorted(IMPORTERS))
        raise Misconfigured(
            f"{path}: its format is not recognised: give --format, one of {known}. It begins with {begins[:80]!r}"
        )
    return fits[0]


def instrument_of(path: Path) -> Instrument:
    """Return the instrument whose symbol or alias, alone or as a pair, is a word of the file's name (XBTUSD_5.csv)."""
    found = _named(path.name)
    if len(found) != 1:
        known = ", ".join(sorted(all_instruments()))
        raise Misconfigured(
            f"{path.name} names no single token of config/markets.yaml: give --symbol, one of {known}, or add "
            "the token there"
        )
    return instrument(found.pop())


def is_pair_of(token: Instrument, pair: str) -> bool:
    """Return whether a pair's name (BTC/USD, BTCUSDT, tBTCUSD) means `token` in dollars."""
    return token.symbol in _named(pair) or token.symbol in _named(pair.removeprefix("t"))


def _named(text: str) -> set[str]:
    words = [word for word in re.split(r"[^A-Z0-9]+", text.upper()) if word]
    return {
        one.symbol
        for one in all_instruments().values()
        for word in words
        for name in {one.symbol, one.feed_symbol, *(alias.upper() for alias in one.aliases)}
        if any(word == f"{name}{quote}" for quote in QUOTES)
    }
