"""File feed: replay recorded candles as live prices, at their own or a faster pace.

One file per symbol, `candles-<FEED_SYMBOL>-USD-5m.csv` or `.csv.gz`, with the header
`open_time_ms,open,high,low,close,volume`, oldest or newest first. A bar's close is known five minutes after it opened.
"""

import bisect
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from itertools import chain, islice, pairwise
from pathlib import Path

from maxxit.core import clock
from maxxit.core.config import ROOT, profile
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.files import lines
from maxxit.market.feeds.bars import BAR as BAR
from maxxit.market.feeds.bars import Bar as Bar
from maxxit.market.feeds.base import Page, Tick
from maxxit.market.instruments import all_instruments, instrument

HEADER = ["open_time_ms", "open", "high", "low", "close", "volume"]
LOOK = 50
"""Number of bars by which the order and spacing of a file are detected."""
FEWEST_GAPS = 5
UNITS = {"seconds": 1, "milliseconds": 1000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
EARLIEST, LATEST = 1_230_768_000, 4_102_444_800
"""2009 and 2100 in seconds since 1970: within this range the units do not overlap."""


PLAY_PROFILES = frozenset({"demo", "replay"})
"""Profiles in which recorded prices may be replayed as current ones."""


def candle_file(folder: Path, symbol: str) -> Path | None:
    """Return the candle file of `symbol` in `folder`, or None."""
    stem = f"candles-{instrument(symbol).feed_symbol}-USD-5m.csv"
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.exists()), None)


def unused_files(folder: Path) -> list[str]:
    """Return the names of candle files in `folder` that belong to no configured instrument."""
    known = {path.name for symbol in all_instruments() if (path := candle_file(folder, symbol))}
    return sorted(path.name for path in folder.glob("candles-*") if path.is_file() and path.name not in known)


def read_bars(path: Path) -> Iterator[Bar]:
    """Yield the bars of a file, oldest first; duplicate lines count once, a file with newest first is reversed.

    Raises `Misconfigured` with file and line for a line that is not a five-minute bar, is out of order, or contradicts
    another bar of the same time, and for a damaged file.
    """
    bars = _parsed(path)
    first = list(islice(bars, LOOK))
    if len(first) > 1 and first[1][1].open_time < first[0][1].open_time:
        first, bars = [*first, *bars][::-1], iter(())
    _check_spacing(path, first)
    last: Bar | None = None
    for number, bar in chain(first, bars):
        if last is not None and bar.open_time <= last.open_time:
            if bar == last:
                continue
            what = "contradicts another of its time" if bar.open_time == last.open_time else "is out of order"
            raise Misconfigured(f"{path}:{number}: bar {bar.open_time:%Y-%m-%d %H:%M} {what}")
        last = bar
        yield bar


def _parsed(path: Path) -> Iterator[tuple[int, Bar]]:
    """Return (line number, bar) for each line after the header; empty lines are skipped."""
    rows = lines(path)
    header = next(rows, (1, ""))[1]
    if not header:
        raise Misconfigured(
            f"{path}:1: the file is empty or begins with an empty line: its header must be {','.join(HEADER)}"
        )
    if [name.strip() for name in header.split(",")] != HEADER:
        raise Misconfigured(f"{path}:1: the header must be {','.join(HEADER)}, not {header[:120]!r}")
    return ((number, _parse(path, number, line.split(","))) for number, line in rows if line.strip())


def _parse(path: Path, number: int, row: list[str]) -> Bar:
    told = f"{path}:{number}: "
    try:
        if not all(
            cell.isascii() and "_" not in cell for cell in row
        ):  # Python would accept 1_000 as a number
            raise ValueError
        moment = int(row[0])
        open_, high, low, close, volume = (Decimal(cell.strip()) for cell in row[1:6])
    except (ValueError, InvalidOperation):
        raise Misconfigured(f"{told}not a bar: {','.join(row)[:120]!r}") from None
    if len(row) != len(HEADER):
        raise Misconfigured(f"{told}{len(row)} fields instead of {len(HEADER)}: {','.join(row)[:120]!r}")
    unit = unit_of(moment)
    if unit != "milliseconds":
        raise Misconfigured(
            f"{told}open_time_ms {moment} is no time in milliseconds since 1970"
            + (f": it looks like {unit}" if unit else "")
        )
    bar = Bar(datetime.fromtimestamp(moment / 1000, UTC), open_, high, low, close, volume)
    if why := bar.fault:
        raise Misconfigured(f"{told}{why}: {','.join(row)[:120]!r}")
    return bar


def unit_of(moment: int) -> str:
    """Return the unit in which a number is a time between 2009 and 2100, or an empty string."""
    return next((unit for unit, size in UNITS.items() if EARLIEST * size <= moment < LATEST * size), "")


def _check_spacing(path: Path, bars: Sequence[tuple[int, Bar]]) -> None:
    """Raise Misconfigured if all bars are over five minutes apart: the close of a longer bar would be used early."""
    gaps = [later.open_time - bar.open_time for (_, bar), (_, later) in pairwise(bars)]
    if len(gaps) >= FEWEST_GAPS and min(gaps) > BAR:
        apart = f"{min(gaps).total_seconds() / 60:.0f} minutes"
        raise Misconfigured(
            f"{path}:{bars[1][0]}: the bars are {apart} apart, this file is of five-minute bars"
        )


@cache
def _closes(path: Path) -> tuple[list[datetime], list[Decimal]]:
    bars = list(read_bars(path))
    return [bar.known_at for bar in bars], [bar.close for bar in bars]


class FileFeed:
    """Replays a folder of candle files; the recorded time `plays_from` is current at the time `starts_at`.

    Prices between two closes are interpolated linearly, for demos at a higher speed; with `speed` 1 and no start the
    feed returns the last close known at the clock's time.
    """

    def __init__(
        self,
        folder: str,
        *,
        name: str = "file",
        starts_at: str = "",
        plays_from: str = "",
        speed: int = 1,
        loop: bool = False,
    ) -> None:
        if (starts_at or plays_from or loop or speed != 1) and profile() not in PLAY_PROFILES:
            raise Misconfigured(
                f"config/feeds.yaml: feed {name} plays old prices as new ones (starts_at, plays_from, speed, loop), "
                f"which only the profiles {', '.join(sorted(PLAY_PROFILES))} may: name a real feed in `order`, "
                "or start with MAXXIT_PROFILE=demo"
            )
        self.name = name
        self.folder = ROOT / folder  # a relative folder is relative to the project
        self.starts_at = datetime.fromisoformat(starts_at) if starts_at else None
        self.plays_from = datetime.fromisoformat(plays_from) if plays_from else None
        self.speed, self.loop = speed, loop
        if not self.folder.is_dir():
            raise Misconfigured(f"config/feeds.yaml: the candle folder {self.folder} does not exist")

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Return the recorded price of each symbol with a file, with the current time when replayed as live."""
        found = {}
        for symbol in symbols:
            if (path := candle_file(self.folder, symbol)) and (tick := self._tick(symbol, path)):
                found[symbol] = tick
        return found

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """Yield the file's bars as one page. Raises Rejected for a symbol without a file."""
        path = candle_file(self.folder, symbol)
        if path is None:
            raise Rejected(f"{self.folder} has no candle file of {symbol}", code="unknown_symbol")
        yield end, [bar for bar in read_bars(path) if start <= bar.open_time < end]

    def _tick(self, symbol: str, path: Path) -> Tick | None:
        times, closes = _closes(path)
        if self.starts_at is None or self.plays_from is None:
            place = bisect.bisect_right(times, clock.now()) - 1
            return Tick(symbol, closes[place], times[place], self.name) if place >= 0 else None
        moment = self.plays_from + (clock.now() - self.starts_at) * self.speed
        if self.loop:
            moment = times[0] + (moment - times[0]) % (times[-1] - times[0])
        place = bisect.bisect_right(times, moment) - 1
        if place < 0 or place + 1 >= len(times):
            return None
        share = Decimal((moment - times[place]) / (times[place + 1] - times[place]))
        price = closes[place] + (closes[place + 1] - closes[place]) * share
        return Tick(symbol, instrument(symbol).round_price(price), clock.now(), self.name)
