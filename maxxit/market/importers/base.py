"""The interface of candle importers, and the parsing they share: times, numbers, width, five-minute bars.

An importer yields the rows of one format as written. `checked` validates the numbers of a row, `width_of` finds how
wide the candles of a file are, and `combined` makes one five-minute bar of the rows within it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.file import EARLIEST, LATEST, UNITS, unit_of

BAR_SECONDS = int(BAR.total_seconds())
MOST_DIGITS = 30
"""Maximum digits of a time: nanoseconds of the year 2100 have 19. Python rejects numbers of thousands of digits."""
WIDTHS = (
    86_400,
    43_200,
    28_800,
    21_600,
    14_400,
    7_200,
    3_600,
    1_800,
    900,
    600,
    300,
    180,
    120,
    60,
    30,
    15,
    10,
    5,
    1,
)
"""Widths of candles that exchanges offer, seconds."""
ALIGNED = 0.9
"""Share of a file's first rows that open on the grid of its width; the others are refused by line."""
WIDTH_ROWS = 1_000
FEW = 12
"""From this many rows on, two- and three-minute candles can be distinguished from one-minute ones."""
LEAST, MOST = Decimal("1e-18"), Decimal("1e18")
"""Bounds of prices (USD) and volumes: what the database's columns hold."""
ZEROS = {10: "", 13: "000", 16: "000000", 19: "000000000"}
"""Digits of a time of this century -> what a whole second ends with: the quick way of `opened_at`."""
CELLS = 200
"""Characters that the numbers of a row have at most, together."""
HOURLY = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d)-([AP]M)")
"""2019-10-17 09-AM: an older form of CryptoDataDownload."""
Numbers = tuple[Decimal, Decimal, Decimal, Decimal, Decimal]
"""open, high, low, close in USD; volume in tokens."""


class Row(NamedTuple):
    """One candle as written in a file."""

    line: int
    """Line number; in JSON the position in the list, from 1."""
    opened: int
    """Seconds since 1970, UTC."""
    open: str
    high: str
    low: str
    close: str
    volume: str
    symbol: str = ""
    """The pair that the row names, where its format has such a column."""


class BadRow(NamedTuple):
    """A line that is no candle."""

    line: int
    reason: str
    """Empty for a minute without a trade (all prices NaN), which is no error."""


Found = Row | BadRow


class CandleImporter(Protocol):
    """An importer for one format."""

    def sniff(self, head: str) -> bool:
        """Return whether a file that begins with `head` (some lines) has this format."""
        ...

    def rows(self, path: Path) -> Iterator[Found]:
        """Yield the candles in file order. Raises `Misconfigured` where the file as a whole cannot be read."""
        ...


def opened_at(text: str) -> int:
    """Parse an open time into seconds since 1970.

    It is a number of seconds to nanoseconds, told apart by its size, or ISO 8601 (UTC where no zone is given). Raises
    ValueError with what is wrong.
    """
    zeros = ZEROS.get(len(text))
    if zeros is not None and text.isdecimal() and text.isascii() and text.endswith(zeros):
        seconds = int(text[:10])
        if EARLIEST <= seconds < LATEST:
            return seconds
    whole = text.strip().removesuffix(".0")
    if whole.isascii() and whole.isdecimal() and len(whole) <= MOST_DIGITS:
        moment = int(whole)
        if unit := unit_of(moment):
            seconds, rest = divmod(moment, UNITS[unit])
            if rest:
                raise ValueError(f"the open time {whole} is no whole second")
            return seconds
    else:
        seconds = _written_out(whole)
        if unit_of(seconds) == "seconds":
            return seconds
    raise ValueError(f"the open time {text.strip()[:40]!r} is no time since 1970 that we know")


def _written_out(text: str) -> int:
    """Return the seconds since 1970 of a date and time, or 0."""
    if hourly := HOURLY.fullmatch(text):
        text = f"{hourly[1]} {int(hourly[2]) % 12 + 12 * (hourly[3] == 'PM'):02}:00"
    try:
        moment = clock.utc(datetime.fromisoformat(text.removesuffix(" UTC")))
    except ValueError:
        return _exponent(text)
    return 0 if moment.microsecond else int(moment.timestamp())


def _exponent(text: str) -> int:
    """Return the seconds of a number that a program wrote with an exponent (1.5E9, 1.5E+12), or 0."""
    try:
        number = (
            Decimal(text)
            if len(text) <= MOST_DIGITS and text.isascii() and "_" not in text
            else Decimal("NaN")
        )
    except InvalidOperation:
        return 0
    if not number.is_finite() or number.adjusted() > MOST_DIGITS or number != number.to_integral_value():
        return 0
    unit = unit_of(int(number))
    seconds, rest = divmod(int(number), UNITS[unit]) if unit else (0, 0)
    return 0 if rest else seconds


def checked(row: Row) -> Numbers | str:
    """Return the numbers of a row, or what is wrong with them."""
    texts = row[2:7]
    try:
        open_, high, low, close, volume = map(Decimal, texts)
        if LEAST <= low <= open_ <= high <= MOST and low <= close <= high and 0 <= volume <= MOST:
            joined = "".join(texts)
            if joined.isascii() and "_" not in joined and len(joined) <= CELLS:
                return open_, high, low, close, volume
    except InvalidOperation:
        pass
    return _fault(row)


def _fault(row: Row) -> str:
    """Return what is wrong with the numbers of a row."""
    found = []
    if sum(map(len, row[2:7])) > CELLS:
        return f"its numbers have more than {CELLS} digits"
    for name, text in zip(("open", "high", "low", "close", "volume"), row[2:7], strict=True):
        plain = text.strip()
        try:
            if not plain.isascii() or "_" in plain:  # Python would accept 1_000
                raise InvalidOperation
            number = Decimal(plain)
        except InvalidOperation:
            return f"{name} is not a number: {plain[:40]!r}"
        if not number.is_finite():
            return f"{name} is not finite: {plain[:40]!r}"
        if number and not LEAST <= abs(number) <= MOST:
            return f"{name} is beyond 1e-18 to 1e18: {plain[:40]!r}"
        found.append(number)
    bar = Bar(clock.bucket(datetime.fromtimestamp(row.opened, UTC), BAR), *found)
    return bar.fault or "low, open, close and high do not fit"


def width_of(path: Path, first: Sequence[Row]) -> int:
    """Return the width of a file's candles in seconds, from its first rows (`WIDTH_ROWS`).

    It is the widest grid on which nearly all of them open, so that minutes without a trade may be missing. Raises
    `Misconfigured` where candles of this width make no five-minute bars.
    """
    times = sorted({row.opened for row in first})
    if len(times) < 2:  # one candle does not show its width
        return next(one for one in WIDTHS if not BAR_SECONDS % one and all(at % one == 0 for at in times))
    # A few minutes with trades among many without may happen to lie two or three minutes apart
    widths = [one for one in WIDTHS if one >= BAR_SECONDS or len(times) >= FEW or not BAR_SECONDS % one]
    width = next(one for one in widths if sum(at % one == 0 for at in times) >= ALIGNED * len(times))
    if BAR_SECONDS % width:
        apart = timedelta(seconds=width)
        advice = (
            "download the one- or five-minute file"
            if width > BAR_SECONDS
            else "they make no five-minute bars"
        )
        raise Misconfigured(f"{path}:{first[1].line}: its candles are {apart} apart: {advice}")
    return width


def combined(opened: int, part: Sequence[Numbers]) -> Bar:
    """Return the five-minute bar of the rows within it, in their order.

    First open, highest high, lowest low, last close, sum of the volumes. The live system forms its bars of ticks by the
    same rule (`maxxit.market.candles.form`).
    """
    return Bar(
        datetime.fromtimestamp(opened, UTC),
        part[0][0],
        max(one[1] for one in part),
        min(one[2] for one in part),
        part[-1][3],
        sum((one[4] for one in part), Decimal(0)),
    )


def bars(path: Path, rows: Iterable[Found]) -> list[Bar]:
    """Return five-minute bars, oldest first, from the rows of a file in any order; one bad row refuses the file.

    Raises `Misconfigured` with file and line for rows that contradict each other, are invalid, or are wider.
    """
    found: dict[int, tuple[int, Numbers]] = {}
    first: list[Row] = []
    for row in rows:
        if isinstance(row, BadRow):
            if row.reason:
                raise Misconfigured(f"{path}:{row.line}: {row.reason}")
            continue
        numbers = checked(row)
        if isinstance(numbers, str):
            raise Misconfigured(f"{path}:{row.line}: {numbers}")
        line, same = found.setdefault(row.opened, (row.line, numbers))
        if same != numbers:
            at = datetime.fromtimestamp(row.opened, UTC)
            raise Misconfigured(f"{path}:{row.line}: candle {at:%Y-%m-%d %H:%M} contradicts line {line}")
        if len(first) < WIDTH_ROWS:
            first.append(row)
    if not found:
        raise Misconfigured(f"{path}: there is no candle in it")
    width = width_of(path, first)
    for opened, (line, _) in found.items():
        if opened % width:
            raise Misconfigured(f"{path}:{line}: {off_grid(opened, width)}")
    ordered = groupby(sorted(found), key=lambda at: at - at % BAR_SECONDS)
    return [combined(opened, [found[at][1] for at in part]) for opened, part in ordered]


def off_grid(opened: int, width: int) -> str:
    """Return that a row does not open on the grid of its file."""
    at = datetime.fromtimestamp(opened, UTC)
    return f"it opens at {at:%Y-%m-%d %H:%M:%S}, and the candles of this file are {timedelta(seconds=width)} apart"
