"""Read CSV files of candles by the columns of their format; a line that cannot be read is yielded as a bad row."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maxxit.core.errors import Misconfigured
from maxxit.core.files import UTF_16, head, raw_lines
from maxxit.market.importers.base import BadRow, Found, Row, opened_at

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Layout:
    """The columns of a format, from 0."""

    time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    symbol: int = -1
    """The column of the pair; -1 without one."""
    begins: int = 1
    """The first line with a candle."""


def candles(path: Path, layout: Layout) -> Iterator[Found]:
    """Yield the candles of a CSV file in file order.

    A line with too few columns, without a time or that is no UTF-8 is a bad row. Raises `Misconfigured` for a damaged
    archive and for UTF-16.
    """
    time, open_, high, low = layout.time, layout.open, layout.high, layout.low
    close, volume, symbol = layout.close, layout.volume, layout.symbol
    least = max(time, open_, high, low, close, volume, symbol) + 1
    for number, raw in raw_lines(path):
        if number < layout.begins or not raw.strip():
            continue
        try:
            cells = raw.decode().split(",") if b'"' not in raw else next(csv.reader([raw.decode()]))
        except UnicodeDecodeError as error:
            if raw.startswith(UTF_16):
                raise Misconfigured(f"{path}:{number}: UTF-16, not UTF-8. Save the file as UTF-8") from None
            yield BadRow(number, f"not UTF-8: {error.reason}")
            continue
        except csv.Error as error:
            yield BadRow(number, f"no line of CSV: {error}")
            continue
        if len(cells) < least:
            yield BadRow(number, f"{len(cells)} fields, at least {least} expected: {raw.decode()[:120]!r}")
            continue
        prices = (cells[open_], cells[high], cells[low], cells[close])
        if b'"' in raw and "," in "".join((*prices, cells[volume])):
            yield BadRow(number, "a number has a comma: write it without")
            continue
        try:
            opened = opened_at(cells[time])
        except ValueError as error:
            yield BadRow(number, str(error))
            continue
        if prices[0].strip().lower() == "nan" and all(price.strip().lower() == "nan" for price in prices):
            yield BadRow(number, "")
            continue
        yield Row(number, opened, *prices, cells[volume], cells[symbol] if symbol >= 0 else "")


def names_of(line: str) -> list[str]:
    """Return the names of a header, lower-case; an empty list where it is no line of CSV."""
    try:
        return [name.strip().lower() for name in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def first_lines(path: Path) -> list[str]:
    """Return the first lines that are not empty. Raises `Misconfigured` for an empty file."""
    found = head(path).split("\n")
    if not found[0]:
        raise Misconfigured(f"{path} is empty")
    return found


def by_header(path: Path, line: str, times: Sequence[str], begins: int) -> Layout:
    """Return the columns by the names of a header. Raises `Misconfigured` naming those that are missing.

    A header may name several volumes: that of the token is taken, not that in dollars.
    """
    names = names_of(line)
    where = {name: names.index(name) if name in names else -1 for name in PRICES}
    where["time"] = next((names.index(name) for name in times if name in names), -1)
    where["volume"] = volume_of(names)
    if missing := [name for name, place in where.items() if place < 0]:
        raise Misconfigured(
            f"{path}:{begins - 1}: the header has no column for {', '.join(missing)}: {line[:200]!r}"
        )
    symbol = next((names.index(name) for name in ("symbol", "pair", "market") if name in names), -1)
    return Layout(**where, symbol=symbol, begins=begins)


MONEY = ("usd", "usdt", "usdc", "busd", "currency", "eur", "quote", "quote asset")


def volume_of(names: Sequence[str]) -> int:
    """Return the column of the volume in tokens: `volume`, else `Volume BTC` or `volume_(btc)`, else any; or -1."""
    places = [place for place, name in enumerate(names) if name.startswith("volume")]
    if "volume" in names:
        return names.index("volume")
    of = {place: names[place].removeprefix("volume").strip(" _()") for place in places}
    return next((place for place in places if of[place] not in MONEY), places[0] if places else -1)


def is_number(text: str) -> bool:
    """Return whether a cell is a plain number, as in a file without a header."""
    return text.strip().replace(".", "", 1).isdecimal()
