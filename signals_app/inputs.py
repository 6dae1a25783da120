"""Validates the input files of replays and backtests before the run: posts, candles and output paths.

Input without usable rows is an error, so that an empty run cannot report a result.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from maxxit.core import data_folder
from maxxit.core.errors import MaxxitError, Misconfigured
from maxxit.market.feeds.bars import Bar
from maxxit.market.feeds.file import candle_file, read_bars, unused_files
from maxxit.market.instruments import all_instruments
from signals_app.sources.base import RawPost, Refused
from signals_app.sources.jsonl import JsonlSource

BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Defaults of an unbounded span."""
TOLERANCE = timedelta(hours=1)
"""How far from the ends of the span candles may begin and end."""
JUMP = 3
"""A close this many times the previous one suggests another token or unit."""
SAME_BARS = 100
"""This many equal closes in two files suggest one token under two names."""
FIRST = 3
"""Refused lines that the error names where no line is usable."""
EXPECTED = (
    "each line must be a JSON object with the strings id, username, created_at (UTC) and text. "
    "`manage.py posts import` makes such a file of an archive of X, a CSV or a spreadsheet (docs/data.md)"
)
SHOWN = 10
"""Refused lines that are listed; all are counted."""


@dataclass(frozen=True)
class Inputs:
    """The validated inputs, with warnings for the user."""

    posts: list[RawPost]
    """Usable posts of the span."""
    refused: Counter[str]
    """Reason -> number of lines in the whole file."""
    refused_at: tuple[str, ...]
    """The first refused lines, each with its reason."""
    bars: dict[str, list[Bar]]
    """Symbol -> five-minute bars, oldest first."""
    warnings: list[str] = field(default_factory=list)

    @property
    def authors(self) -> int:
        """Number of accounts that wrote the posts; names compare without case."""
        return len({post.username.lower() for post in self.posts})

    def as_json(self) -> dict[str, Any]:
        """Counts and warnings for the summary."""
        return {
            "posts_usable": len(self.posts),
            "authors": self.authors,
            "refused": dict(self.refused),
            "refused_at": list(self.refused_at),
            "candles": {symbol: len(bars) for symbol, bars in self.bars.items()},
            "warnings": self.warnings,
        }


def of_data_folder(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with `posts` and `candles` of the data folder `data`, where one is given and they are not.

    Raises `Misconfigured` where the data folder has no posts, or a file that is not as it was imported.
    """
    if (data := options.get("data")) is None:
        return options
    data_folder.check(data)
    posts = options["posts"] or data_folder.posts_of(data)
    return options | {"posts": posts, "candles": options["candles"] or data}


def read_inputs(path: Path, folder: Path, start: datetime | None, end: datetime | None) -> Inputs:
    """Read the posts of [start, end), by default of the whole file, and the candles. Raises `Misconfigured`."""
    posts, refused = JsonlSource([str(path)]).everything()
    within = check_posts(posts, refused, path, start or BEGINNING, end or END)
    times = [post.posted_at for post in within]
    bars, warnings = read_candles(folder, start or min(times), end or max(times))
    places = tuple(f"{line.place}: {line.reason}" for line in refused[:SHOWN])
    return Inputs(within, Counter(line.reason for line in refused), places, bars, warnings)


def check_posts(
    posts: list[RawPost], refused: list[Refused], path: Path, start: datetime, end: datetime
) -> list[RawPost]:
    """Select the posts of [start, end). Raises `Misconfigured` where there are none, naming the file's span."""
    within = [post for post in posts if start <= post.posted_at < end and not post.deleted]
    if within:
        return within
    if posts:
        first, last = min(post.posted_at for post in posts), max(post.posted_at for post in posts)
        raise Misconfigured(
            f"{path} has no post between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC: its "
            f"{len(posts):,} posts are from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        )
    if not refused:
        raise Misconfigured(f"{path} is empty: {EXPECTED}")
    named = "; ".join(f"line {line.place.rpartition(':')[2]}: {line.reason}" for line in refused[:FIRST])
    more = f"; and {len(refused) - FIRST:,} more lines" if len(refused) > FIRST else ""
    raise Misconfigured(f"{path} has no usable post: {named}{more}. {EXPECTED[0].upper()}{EXPECTED[1:]}")


def check_followed(authors: set[str], followed: set[str], path: Path) -> None:
    """Raise `Misconfigured` where no agent follows an author of the file. Names compare without case."""
    if followed and not {name.lower() for name in followed} & {name.lower() for name in authors}:
        raise Misconfigured(
            f"{path} has no post of a followed account ({', '.join(sorted(followed, key=str.lower)[:5])}); it has "
            f"{', '.join(sorted(authors, key=str.lower)[:5])}: name them under `follows` in the profile's agents.yaml"
        )


def read_candles(folder: Path, start: datetime, end: datetime) -> tuple[dict[str, list[Bar]], list[str]]:
    """Read every instrument's bars, with warnings. Raises `Misconfigured` where none covers [start, end)."""
    files = {symbol: path for symbol in all_instruments() if (path := candle_file(folder, symbol))}
    series = {symbol: bars for symbol, path in files.items() if (bars := list(read_bars(path)))}
    if files and not series:
        names = ", ".join(path.name for path in files.values())
        raise Misconfigured(f"{folder}: no candle after the header of {names}")
    if not series:
        raise Misconfigured(
            f"no candle file in {folder}: expected names like candles-BTC-USD-5m.csv.gz. `manage.py candles import` "
            "makes such files of other formats (docs/data.md)"
        )
    warnings = [
        f"{path.name} has no candle after its header"
        for symbol, path in files.items()
        if symbol not in series
    ]
    warnings += [
        f"{name} belongs to no token of config/markets.yaml and is not used" for name in unused_files(folder)
    ]
    spans = {symbol: (bars[0].open_time, bars[-1].known_at) for symbol, bars in series.items()}
    partial = {
        symbol: f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        for symbol, (first, last) in spans.items()
        if first > start + TOLERANCE or last < end - TOLERANCE
    }
    if len(partial) == len(series):
        present = "; ".join(f"{symbol} {span}" for symbol, span in partial.items())
        raise Misconfigured(
            f"no candles in {folder} cover {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: {present}"
        )
    warnings += [f"the candles of {symbol} cover only {span} UTC" for symbol, span in partial.items()]
    return series, [*warnings, *_doubts(series)]


def _doubts(series: dict[str, list[Bar]]) -> list[str]:
    """List signs that a file holds the prices of another token."""
    doubts = []
    for symbol, bars in series.items():
        for earlier, later in pairwise(bars):
            near = later.open_time - earlier.open_time <= timedelta(hours=1)
            if near and not earlier.close / JUMP < later.close < earlier.close * JUMP:
                doubts.append(
                    f"the price of {symbol} goes from {earlier.close} to {later.close} USD at "
                    f"{later.open_time:%Y-%m-%d %H:%M}: is this one token in one unit?"
                )
                break
    closes = {symbol: [bar.close for bar in bars[:SAME_BARS]] for symbol, bars in series.items()}
    symbols = sorted(closes)
    doubts += [
        f"the candles of {one} and {other} are the same: one of the files has a wrong name"
        for place, one in enumerate(symbols)
        for other in symbols[place + 1 :]
        if len(closes[one]) == SAME_BARS and closes[one] == closes[other]
    ]
    return doubts


def check_output(option: str, path: Path | None) -> None:
    """Raise `Misconfigured` before the run where `path` cannot be written."""
    if path is None:
        return
    if path.is_dir():
        raise Misconfigured(f"{option} {path} is a folder")
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise Misconfigured(f"{option} {path} cannot be written: {error.strerror}") from error


def check_folder(path: Path | None) -> None:
    """Create the folder. Raises `Misconfigured` before the run where files cannot be written into it."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"--plot {path} is not a folder and cannot be created: {error.strerror}"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise Misconfigured(f"--plot {path} is not writable")


@contextmanager
def wrong_input() -> Iterator[None]:
    """Turn errors within the block into exit code 2: the input is wrong."""
    try:
        yield
    except MaxxitError as error:
        raise CommandError(str(error), returncode=2) from error
    except OSError as error:
        named = f"{error.filename} cannot be read: " if error.filename else ""
        raise CommandError(f"{named}{error.strerror or error}", returncode=2) from error
