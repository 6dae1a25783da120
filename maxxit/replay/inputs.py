"""What a replay is to read, checked before it begins: nothing usable is an error, never a run that reports a profit."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import candle_file, read_bars, unused_files
from maxxit.market.instruments import all_instruments
from signals_app.sources.base import RawPost, Refused

TOLERANCE = timedelta(hours=1)
"""How far from the ends of the span candles may begin and end."""
JUMP = 3
"""Times from one five-minute close to the next: so much is another token or another unit."""
SAME_BARS = 100
"""So many equal closes in two files are one token under two names."""


@dataclass(frozen=True)
class Inputs:
    """What was found; `warnings` are shown, errors were raised."""

    posts: int
    """Usable posts of the span."""
    authors: int
    refused: Counter[str]
    """Reason -> entries of the whole file."""
    refused_at: tuple[str, ...]
    """The first places, each with its reason."""
    bars: dict[str, list[Bar]]
    """Symbol -> five-minute bars, oldest first."""
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "posts_usable": self.posts,
            "authors": self.authors,
            "refused": dict(self.refused),
            "refused_at": list(self.refused_at),
            "candles": {symbol: len(bars) for symbol, bars in self.bars.items()},
            "warnings": self.warnings,
        }


def check_posts(
    posts: list[RawPost], refused: list[Refused], path: Path, start: datetime, end: datetime
) -> tuple[int, int]:
    """(posts, authors) of the span [start, end). Raises `Misconfigured` where there are none, saying what is there."""
    within = [post for post in posts if start <= post.posted_at < end and not post.deleted]
    if within:
        return len(within), len({post.username.lower() for post in within})
    if posts:
        first, last = min(post.posted_at for post in posts), max(post.posted_at for post in posts)
        raise Misconfigured(
            f"{path} has no post between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC: its "
            f"{len(posts):,} posts are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        )
    why = (
        f"; {len(refused):,} lines refused, the first {refused[0].place}: {refused[0].reason}"
        if refused
        else ""
    )
    raise Misconfigured(f"{path} has no usable post{why}. `manage.py import-posts` reads other formats")


def check_followed(authors: set[str], followed: set[str], path: Path) -> None:
    """Raises `Misconfigured` where no agent follows an author of the file. Names compare without case."""
    if followed and not {name.lower() for name in followed} & {name.lower() for name in authors}:
        raise Misconfigured(
            f"{path} has no post of a followed account ({', '.join(sorted(followed, key=str.lower)[:5])}); it has "
            f"{', '.join(sorted(authors, key=str.lower)[:5])}: name them under `follows` in the profile's cast.yaml"
        )


def read_candles(folder: Path, start: datetime, end: datetime) -> tuple[dict[str, list[Bar]], list[str]]:
    """Every instrument's bars, and what to warn of. Raises `Misconfigured` where none covers [start, end)."""
    found = {
        symbol: bars
        for symbol in all_instruments()
        if (path := candle_file(folder, symbol)) and (bars := list(read_bars(path)))
    }
    if not found:
        raise Misconfigured(
            f"no candle file in {folder}: expected names like candles-BTC-USD-5m.csv.gz. `manage.py import-candles` "
            "reads other formats"
        )
    warnings = [
        f"{name} is of no token in config/markets.yaml and is not used" for name in unused_files(folder)
    ]
    spans = {symbol: (bars[0].open_time, bars[-1].known_at) for symbol, bars in found.items()}
    partial = {
        symbol: f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        for symbol, (first, last) in spans.items()
        if first > start + TOLERANCE or last < end - TOLERANCE
    }
    if len(partial) == len(found):
        told = "; ".join(f"{symbol} {span}" for symbol, span in partial.items())
        raise Misconfigured(
            f"no candles in {folder} cover {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: {told}"
        )
    warnings += [f"the candles of {symbol} cover only {span} UTC" for symbol, span in partial.items()]
    return found, [*warnings, *_doubts(found)]


def _doubts(found: dict[str, list[Bar]]) -> list[str]:
    """Files that may hold the prices of another token."""
    doubts = []
    for symbol, bars in found.items():
        for one, later in pairwise(bars):
            near = later.open_time - one.open_time <= timedelta(hours=1)
            if near and not one.close / JUMP < later.close < one.close * JUMP:
                doubts.append(
                    f"the price of {symbol} goes from {one.close} to {later.close} USD at "
                    f"{later.open_time:%Y-%m-%d %H:%M}: is this one token in one unit?"
                )
                break
    closes = {symbol: [bar.close for bar in bars[:SAME_BARS]] for symbol, bars in found.items()}
    symbols = sorted(closes)
    doubts += [
        f"the candles of {one} and {other} are the same: one of the files has a wrong name"
        for place, one in enumerate(symbols)
        for other in symbols[place + 1 :]
        if len(closes[one]) == SAME_BARS and closes[one] == closes[other]
    ]
    return doubts


def check_output(path: Path | None) -> None:
    """Raises `Misconfigured` where `path` cannot be written, before an hour of work is lost."""
    if path is None:
        return
    if path.is_dir():
        raise Misconfigured(f"--events-out {path} is a folder")
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise Misconfigured(f"--events-out {path} cannot be written: {error.strerror}") from error
