"""Store five-minute and one-minute bars, aggregate coarser bars, and find gaps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from maxxit.core.clock import bucket
from maxxit.market import partitions
from maxxit.market.bars import Bars
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Candle

KEEP = "ON CONFLICT DO NOTHING"
REPLACE = """ON CONFLICT (symbol, open_time) DO UPDATE SET open = excluded.open, high = excluded.high,
    low = excluded.low, close = excluded.close, volume = excluded.volume"""

SUPERSEDE = """
UPDATE market_snapshots SET superseded = true
WHERE symbol = %(symbol)s AND until > (SELECT min(open_time) FROM offered) AND NOT superseded
"""
"""Marks indicator snapshots that were computed without these bars (`maxxit.market.snapshots`)."""


def store(symbol: str, bars: Iterable[Bar], *, replace: bool = False) -> int:
    """Load bars by COPY; return the number of bars given. A stored bar is kept unless `replace` is set."""
    columns = "symbol, open_time, open, high, low, close, volume"
    count = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE offered ON COMMIT DROP AS SELECT {columns} FROM candles LIMIT 0")  # noqa: S608 (constants)
        with cursor.copy(f"COPY offered ({columns}) FROM STDIN") as copy:
            for bar in bars:
                copy.write_row((symbol, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume))
                count += 1
        cursor.execute(
            f"INSERT INTO candles ({columns}) SELECT {columns} FROM offered {REPLACE if replace else KEEP}"  # noqa: S608
        )
        if cursor.rowcount:
            cursor.execute(SUPERSEDE, {"symbol": symbol})
        cursor.execute("DROP TABLE offered")  # the caller's transaction may store another symbol's bars
    return count


@dataclass(frozen=True, slots=True)
class Span:
    """The price range of a symbol over a short time that ended at `at` (UTC) with `close`; prices in USD."""

    symbol: str
    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @classmethod
    def of(cls, tick: Tick) -> "Span":
        """Return the span of a single tick."""
        return cls(tick.symbol, tick.at, tick.price, tick.price, tick.price, tick.price)


FORM = """
WITH seen AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[])
        AS new(symbol, at, open, high, low, close)
), five AS (
    INSERT INTO candles (symbol, open_time, open, high, low, close, volume)
    SELECT symbol, date_bin('5 minutes', at, '1970-01-01Z'), (array_agg(open ORDER BY at))[1], max(high), min(low),
           (array_agg(close ORDER BY at DESC))[1], 0
    FROM seen GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (symbol, open_time) DO UPDATE SET
        high = greatest(candles.high, excluded.high), low = least(candles.low, excluded.low), close = excluded.close
)
INSERT INTO candles_1m (symbol, open_time, open, high, low, close)
SELECT symbol, date_bin('1 minute', at, '1970-01-01Z'), (array_agg(open ORDER BY at))[1], max(high), min(low),
       (array_agg(close ORDER BY at DESC))[1]
FROM seen GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (symbol, open_time) DO UPDATE SET
    high = greatest(candles_1m.high, excluded.high), low = least(candles_1m.low, excluded.low), close = excluded.close
"""


def form(spans: Sequence[Span]) -> None:
    """Merge each span into its forming one-minute and five-minute bars, in one statement."""
    if not spans:
        return
    partitions.ensure({span.at for span in spans})
    columns = zip(*((s.symbol, s.at, s.open, s.high, s.low, s.close) for s in spans), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(FORM, [list(column) for column in columns])


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing five-minute bars: those that open in [start, end)."""

    symbol: str
    start: datetime
    end: datetime

    @property
    def bars(self) -> int:
        """Return the number of missing bars."""
        return (self.end - self.start) // BAR


GAPS = """
SELECT symbol, open_time + %(bar)s, next FROM (
    SELECT symbol, open_time, lead(open_time, 1, %(until)s) OVER (PARTITION BY symbol ORDER BY open_time) AS next
    FROM candles WHERE symbol = ANY(%(symbols)s) AND open_time >= %(since)s AND open_time < %(until)s
) AS held
WHERE next > open_time + %(bar)s
ORDER BY symbol, open_time
"""


def gaps(symbols: Sequence[str], since: datetime, until: datetime) -> list[Gap]:
    """Return the gaps in the five-minute bars of `symbols` between the first stored bar after `since` and `until`.

    A symbol without any bar in that time has no gap, but no market data at all.
    """
    values: dict[str, Any] = {
        "bar": BAR,
        "symbols": list(symbols),
        "since": since,
        "until": bucket(until, BAR),
    }
    with connection.cursor() as cursor:
        cursor.execute(GAPS, values)
        return [Gap(*row) for row in cursor]


HISTORY = """
WITH first AS (
    SELECT coalesce((SELECT open_time FROM {table} WHERE symbol = %(symbol)s AND open_time < %(before)s
                     ORDER BY open_time DESC OFFSET %(skip)s LIMIT 1), '1970-01-01Z') AS at
)
SELECT date_bin(%(width)s, open_time, '1970-01-01Z') AS slot, (array_agg(open ORDER BY open_time))[1], max(high),
       min(low), (array_agg(close ORDER BY open_time DESC))[1]
FROM {table}, first
WHERE symbol = %(symbol)s AND open_time < %(before)s AND open_time >= date_bin(%(width)s, first.at, '1970-01-01Z')
GROUP BY slot ORDER BY slot DESC LIMIT %(limit)s
"""
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Shown:
    """A bar for charts, which include the forming bar; prices in USD."""

    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


def history(symbol: str, width: timedelta, before: datetime, limit: int) -> list[Shown]:
    """Return the newest `limit` bars of `width` (a minute, or whole five minutes) opened before `before`, oldest first.

    For charts only: decisions use `last_bars`, which never returns the forming bar.
    """
    table, per = ("candles_1m", 1) if width == MINUTE else ("candles", width // BAR)
    values: dict[str, Any] = {
        "symbol": symbol,
        "width": width,
        "before": bucket(before, width) + (width if before != bucket(before, width) else timedelta(0)),
        "skip": limit * per - 1,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(HISTORY.format(table=table), values)
        return [Shown(*row) for row in cursor][::-1]


LAST_BARS = """
SELECT symbol, array_agg(high ORDER BY slot), array_agg(low ORDER BY slot), array_agg(close ORDER BY slot),
       array_agg(volume ORDER BY slot), min(slot), max(slot)
FROM (
    SELECT symbol, date_bin(%(width)s, open_time, '1970-01-01Z') AS slot,
           max(high)::float8 AS high, min(low)::float8 AS low,
           ((array_agg(close ORDER BY open_time DESC))[1])::float8 AS close, sum(volume)::float8 AS volume
    FROM candles
    WHERE symbol = ANY(%(symbols)s) AND open_time >= %(since)s AND open_time < %(until)s
    GROUP BY symbol, slot
) AS bars
GROUP BY symbol
"""


def last_bars(symbols: Sequence[str], *, width: timedelta, count: int, at: datetime) -> dict[str, Bars]:
    """Up to `count` bars of `width` per symbol that had closed by `at`: never the one still forming."""
    until = bucket(at, width)
    since = until - count * width
    values: dict[str, Any] = {"width": width, "symbols": list(symbols), "since": since, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(LAST_BARS, values)
        return {symbol: _bars(symbol, columns, width, until) for symbol, *columns in cursor}


def closed_bars(symbols: Sequence[str], since: datetime, until: datetime) -> dict[str, list[Bar]]:
    """Return symbol -> its five-minute bars that opened at `since` or later and had closed by `until`, oldest first."""
    found: dict[str, list[Bar]] = {}
    rows = Candle.objects.filter(symbol__in=symbols, open_time__gte=since, open_time__lte=until - BAR)
    for row in rows.order_by("symbol", "open_time"):
        bar = Bar(row.open_time, row.open, row.high, row.low, row.close, row.volume)
        found.setdefault(row.symbol, []).append(bar)
    return found


CLOSES = """
SELECT w.place, c.close
FROM unnest(%(symbols)s::text[], %(moments)s::timestamptz[]) WITH ORDINALITY AS w (symbol, at, place)
CROSS JOIN LATERAL (
    SELECT close FROM candles
    WHERE symbol = w.symbol AND open_time <= w.at - %(bar)s::interval AND open_time > w.at - %(within)s::interval
    ORDER BY open_time DESC LIMIT 1
) AS c
"""


def closes(
    wanted: Sequence[tuple[str, datetime]], within: timedelta = timedelta(hours=1)
) -> list[Decimal | None]:
    """Return for each (symbol, time) the close, in USD, of the last bar closed by then; None if it opened more than
    `within` earlier."""
    values: dict[str, Any] = {
        "symbols": [symbol for symbol, _ in wanted],
        "moments": [at for _, at in wanted],
        "bar": BAR,
        "within": within,
    }
    with connection.cursor() as cursor:
        cursor.execute(CLOSES, values)
        found = dict(cursor.fetchall())
    return [found.get(place) for place in range(1, len(wanted) + 1)]


def _bars(symbol: str, columns: list[Any], width: timedelta, until: datetime) -> Bars:
    import numpy as np  # as in `maxxit.market.bars`

    high, low, close, volume, first, last = columns
    return Bars(
        symbol,
        np.array(high),
        np.array(low),
        np.array(close),
        np.array(volume),
        missing=(until - first) // width - len(close),
        last_missing=last + width < until,
    )
