"""What an importer of candle files is, and what all of them share: numbers, times, order, width.

An importer knows one format and gives its rows as they stand; `bars` puts them in order, checks them, and makes
five-minute bars of one-minute ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby, pairwise
from pathlib import Path
from typing import Protocol

from maxxit.core.clock import bucket
from maxxit.core.errors import Misconfigured
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.file import UNITS, unit_of

MINUTE = timedelta(minutes=1)
MOST_DIGITS = 30
"""Of a time: nanoseconds of the year 2100 have 19. Python refuses to read numbers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candle as a file gives it, prices in USD."""

    line: int
    """Where it stands: a line number, in JSON the place in the list, from 1."""
    opened: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class CandleImporter(Protocol):
    """One format."""

    def sniff(self, head: str) -> bool:
        """Whether a file that begins with `head` (some lines) is of this format."""
        ...

    def rows(self, path: Path) -> Iterator[Row]:
        """The candles as they stand. Raises `Misconfigured` with file, line and field."""
        ...


def row(path: Path, line: int, opened: str, prices: Sequence[str], volume: str) -> Row:
    """A row out of text: open time, (open, high, low, close), volume. Raises `Misconfigured` naming the field."""
    names = ("open", "high", "low", "close")
    numbers = [
        number(path, line, name, text)
        for name, text in zip((*names, "volume"), (*prices, volume), strict=True)
    ]
    return Row(line, moment(path, line, opened), *numbers)


def number(path: Path, line: int, name: str, text: str) -> Decimal:
    """A finite number. Raises `Misconfigured` with file, line and field."""
    plain = text.strip()
    try:
        if not plain.isascii() or "_" in plain:
            raise InvalidOperation
        found = Decimal(plain)
    except InvalidOperation:
        raise Misconfigured(f"{path}:{line}: {name} is not a number: {plain[:40]!r}") from None
    if not found.is_finite():
        raise Misconfigured(f"{path}:{line}: {name} is not finite: {plain[:40]!r}")
    return found


def moment(path: Path, line: int, text: str) -> datetime:
    """A time in seconds, milli-, micro- or nanoseconds since 1970, told by its size, UTC."""
    whole = text.strip().removesuffix(".0")
    digits = whole.isascii() and whole.isdecimal() and len(whole) <= MOST_DIGITS
    unit = unit_of(int(whole)) if digits else ""
    if not unit:
        raise Misconfigured(
            f"{path}:{line}: the open time {text.strip()[:40]!r} is no time since 1970 that we know"
        )
    return datetime.fromtimestamp(int(whole) // UNITS[unit], UTC)


def bars(path: Path, rows: Iterable[Row]) -> list[Bar]:
    """Five-minute bars, oldest first, of rows of one or five minutes in any order.

    Raises `Misconfigured` with file and line for rows that contradict each other, are no bar, or are wider.
    """
    kept = _once(path, rows)
    if not kept:
        raise Misconfigured(f"{path}: there is no candle in it")
    width = min((later.opened - one.opened for one, later in pairwise(kept)), default=BAR)
    if width % MINUTE or (width < BAR and BAR % width):
        raise Misconfigured(f"{path}:{kept[1].line}: candles {width} apart make no five-minute bars")
    if width > BAR:
        raise Misconfigured(
            f"{path}:{kept[1].line}: its candles are {width} apart: download the one- or five-minute file"
        )
    return [_bar(path, list(part)) for _, part in groupby(kept, key=lambda one: bucket(one.opened, BAR))]


def _once(path: Path, rows: Iterable[Row]) -> list[Row]:
    """In order of time; a repeated row counts once."""
    found: dict[datetime, Row] = {}
    for one in rows:
        same = found.setdefault(one.opened, one)
        if _numbers(same) != _numbers(one):
            raise Misconfigured(
                f"{path}:{one.line}: candle {one.opened:%Y-%m-%d %H:%M} contradicts line {same.line}"
            )
    return [found[opened] for opened in sorted(found)]


def _numbers(one: Row) -> tuple[Decimal, ...]:
    return one.open, one.high, one.low, one.close, one.volume


def _bar(path: Path, part: list[Row]) -> Bar:
    for one in part:
        if why := Bar(bucket(one.opened, BAR), *_numbers(one)).fault:
            raise Misconfigured(f"{path}:{one.line}: {why}")
    return Bar(
        open_time=bucket(part[0].opened, BAR),
        open=part[0].open,
        high=max(one.high for one in part),
        low=min(one.low for one in part),
        close=part[-1].close,
        volume=sum((one.volume for one in part), Decimal(0)),
    )
