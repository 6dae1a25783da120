"""The interface of candle importers, and the parsing they share: numbers, times, order, width.

An importer reads the rows of one format; `bars` sorts and validates them, and aggregates one-minute rows to
five-minute bars.
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
"""Maximum digits of a time: nanoseconds of the year 2100 have 19. Python rejects numbers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candle as read from a file, prices in USD."""

    line: int
    """Line number; in JSON the position in the list, from 1."""
    opened: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class CandleImporter(Protocol):
    """An importer for one format."""

    def sniff(self, head: str) -> bool:
        """Return whether a file that begins with `head` (some lines) has this format."""
        ...

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield the candles in file order. Raises `Misconfigured` with file, line and field."""
        ...


def row(path: Path, line: int, opened: str, prices: Sequence[str], volume: str) -> Row:
    """Parse a row: open time, (open, high, low, close), volume. Raises `Misconfigured` naming the field."""
    names = ("open", "high", "low", "close")
    numbers = [
        number(path, line, name, text)
        for name, text in zip((*names, "volume"), (*prices, volume), strict=True)
    ]
    return Row(line, moment(path, line, opened), *numbers)


def number(path: Path, line: int, name: str, text: str) -> Decimal:
    """Parse a finite number. Raises `Misconfigured` with file, line and field."""
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
    """Parse a time in seconds to nanoseconds since 1970 into UTC; the unit is detected by its size."""
    whole = text.strip().removesuffix(".0")
    digits = whole.isascii() and whole.isdecimal() and len(whole) <= MOST_DIGITS
    unit = unit_of(int(whole)) if digits else ""
    if not unit:
        raise Misconfigured(
            f"{path}:{line}: the open time {text.strip()[:40]!r} is no time since 1970 that we know"
        )
    return datetime.fromtimestamp(int(whole) // UNITS[unit], UTC)


def bars(path: Path, rows: Iterable[Row]) -> list[Bar]:
    """Return five-minute bars, oldest first, from rows of one or five minutes in any order.

    Raises `Misconfigured` with file and line for rows that contradict each other, are invalid, or are wider.
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
    """Sort rows by time; duplicate rows count once."""
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
