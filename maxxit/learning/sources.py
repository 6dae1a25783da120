"""Read hours of all symbols from the database or from candle files, with the posts of each hour."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from django.db import connection

from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.core.registry import Registry
from maxxit.learning.hours import HOUR_SECONDS, Hours, from_bars
from maxxit.market.feeds.file import candle_file, read_bars
from maxxit.market.instruments import all_instruments, stablecoins

POSTS: Registry[Any] = Registry("source of post counts", {"stored": "signals_app.post_hours.StoredPosts"})
"""By name, because posts lie in a layer above: `counts(symbols, since, until)`: symbol -> hour -> (posts, sides)."""
Counts = Mapping[str, Mapping[int, tuple[int, int]]]

STORED = """
SELECT symbol, array_agg(extract(epoch FROM open_time)::bigint ORDER BY open_time),
       array_agg(high::float8 ORDER BY open_time), array_agg(low::float8 ORDER BY open_time),
       array_agg(close::float8 ORDER BY open_time), array_agg(volume::float8 ORDER BY open_time)
FROM candles
WHERE symbol = ANY(%s) AND open_time >= %s AND open_time < %s AND close > 0 AND low > 0
GROUP BY symbol ORDER BY symbol
"""
HOUR = timedelta(hours=1)


def tradable() -> list[str]:
    """Return the configured symbols that move: all but stablecoins."""
    return sorted(set(all_instruments()) - stablecoins())


def stored(symbols: Sequence[str], since: datetime, until: datetime) -> list[Hours]:
    """Return the hours of stored candles that were over by `until`; symbols without a whole hour are left out."""
    first, last = clock.bucket(since, HOUR), clock.bucket(until, HOUR)
    with connection.cursor() as cursor:
        cursor.execute(STORED, [list(symbols), first, last])
        bars = [(symbol, *map(np.array, columns)) for symbol, *columns in cursor]
    made = [hours for one in bars if (hours := from_bars(*one)) is not None]
    counts = POSTS.open("stored").counts([hours.symbol for hours in made], first, last)
    return [with_posts(hours, counts.get(hours.symbol, {})) for hours in made]


def with_posts(hours: Hours, counts: Mapping[int, tuple[int, int]]) -> Hours:
    """Return the hours with the number of calls and the sum of their sides: hour number -> (posts, sides)."""
    posts, sides = np.zeros(len(hours)), np.zeros(len(hours))
    for hour, (number, side) in counts.items():
        if 0 <= hour - hours.first < len(hours):
            posts[hour - hours.first], sides[hour - hours.first] = number, side
    return replace(hours, posts=posts, sides=sides)


def from_files(folder: Path) -> list[Hours]:
    """Return the hours of the candle files of a folder. Raises `Misconfigured` where it has none."""
    made = []
    for symbol in tradable():
        path = candle_file(folder, symbol)
        if path is None:
            continue
        bars = list(read_bars(path))
        columns = (
            np.array([float(getattr(bar, name)) for bar in bars])
            for name in ("high", "low", "close", "volume")
        )
        opened = np.array([int(bar.open_time.timestamp()) for bar in bars], dtype=np.int64)
        if (hours := from_bars(symbol, opened, *columns)) is not None:
            made.append(hours)
    if not made:
        raise Misconfigured(f"no candle file in {folder}: expected names like candles-BTC-USD-5m.csv.gz")
    return made


def digest(series: Sequence[Hours]) -> str:
    """Return the SHA-256 of the data."""
    found = sha256()
    for hours in series:
        found.update(f"{hours.symbol}:{hours.first}:{len(hours)}".encode())
        for column in (
            hours.close,
            hours.high,
            hours.low,
            hours.volume,
            hours.variance,
            hours.posts,
            hours.sides,
        ):
            found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def span(series: Sequence[Hours]) -> tuple[datetime, datetime]:
    """Return the start of the first hour and the end of the last."""
    first = min(series, key=lambda hours: hours.first)
    last = max(series, key=lambda hours: hours.first + len(hours))
    return first.end(0) - timedelta(seconds=HOUR_SECONDS), last.end(len(last) - 1)
