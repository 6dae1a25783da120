"""Recorded candles as a live feed: the past plays again, at its own or a faster pace.

One file per symbol, `candles-<FEED_SYMBOL>-USD-5m.csv` or `.csv.gz`, with the header
`open_time_ms,open,high,low,close,volume`, oldest first. A bar's close is known five minutes after it opened.
"""

import bisect
import csv
import gzip
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

from maxxit.core import clock
from maxxit.core.config import ROOT, profile
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.market.feeds.bars import BAR as BAR
from maxxit.market.feeds.bars import Bar as Bar
from maxxit.market.feeds.base import Page, Tick
from maxxit.market.instruments import instrument

HEADER = ["open_time_ms", "open", "high", "low", "close", "volume"]


PLAY_PROFILES = frozenset({"demo", "replay"})
"""Where recorded prices may be played as if they were of now."""


def candle_file(folder: Path, symbol: str) -> Path | None:
    """The file of `symbol` in `folder`, if there is one."""
    stem = f"candles-{instrument(symbol).feed_symbol}-USD-5m.csv"
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.exists()), None)


def read_bars(path: Path) -> Iterator[Bar]:
    """The bars of a file. Raises `Misconfigured` with file and line for a line that is no bar or out of order."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = csv.reader(lines)
        if next(rows, None) != HEADER:
            raise Misconfigured(f"{path}:1: the header must be {','.join(HEADER)}")
        last = None
        for number, row in enumerate(rows, start=2):
            bar = _parse(path, number, row)
            if last and bar.open_time <= last:
                raise Misconfigured(
                    f"{path}:{number}: bar {bar.open_time:%Y-%m-%d %H:%M} is not after the one before"
                )
            last = bar.open_time
            yield bar


def _parse(path: Path, number: int, row: list[str]) -> Bar:
    try:
        opened = datetime.fromtimestamp(int(row[0]) / 1000, UTC)
        bar = Bar(opened, *(Decimal(cell) for cell in row[1:6]))
        whole = bar.whole
    except (ValueError, IndexError, TypeError, InvalidOperation):
        raise Misconfigured(f"{path}:{number}: not a bar: {','.join(row)[:120]!r}") from None
    if not whole:
        raise Misconfigured(f"{path}:{number}: low, open, close and high do not fit: {','.join(row)[:120]!r}")
    return bar


@cache
def _closes(path: Path) -> tuple[list[datetime], list[Decimal]]:
    bars = list(read_bars(path))
    return [bar.known_at for bar in bars], [bar.close for bar in bars]


class FileFeed:
    """Plays a folder of candle files. `plays_from` is the recorded moment that is true at `starts_at`.

    Between two closes the price moves in a straight line, so that a sped-up demo has prices in between; with
    `speed` 1 and no start it simply gives the last close that was known at the clock's moment.
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
        self.folder = ROOT / folder  # a relative folder starts at the project
        self.starts_at = datetime.fromisoformat(starts_at) if starts_at else None
        self.plays_from = datetime.fromisoformat(plays_from) if plays_from else None
        self.speed, self.loop = speed, loop
        if not self.folder.is_dir():
            raise Misconfigured(f"config/feeds.yaml: the candle folder {self.folder} does not exist")

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """The recorded price of each symbol that has a file, stamped with the present clock when played live."""
        found = {}
        for symbol in symbols:
            if (path := candle_file(self.folder, symbol)) and (tick := self._tick(symbol, path)):
                found[symbol] = tick
        return found

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """The file's bars as one page. Raises Rejected for a symbol without a file."""
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
