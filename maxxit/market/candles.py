"""Five-minute bars in the database, and coarser ones computed from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from django.db import connection, transaction
from numpy.typing import NDArray

from maxxit.core.clock import bucket
from maxxit.market.feeds.base import Tick
from maxxit.market.feeds.file import BAR, Bar


@dataclass(frozen=True)
class Bars:
    """The last closed bars of one symbol, oldest first; each array has shape (n,), prices in USD."""

    symbol: str
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.close)


def store(symbol: str, bars: Iterable[Bar]) -> int:
    """Load bars by COPY; a bar that we hold already stays as it is. Returns how many were offered."""
    columns = "symbol, open_time, open, high, low, close, volume"
    count = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE offered ON COMMIT DROP AS SELECT {columns} FROM candles LIMIT 0")  # noqa: S608 (constants)
        with cursor.copy(f"COPY offered ({columns}) FROM STDIN") as copy:
            for bar in bars:
                copy.write_row((symbol, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume))
                count += 1
        cursor.execute(f"INSERT INTO candles ({columns}) SELECT {columns} FROM offered ON CONFLICT DO NOTHING")  # noqa: S608
        cursor.execute("DROP TABLE offered")  # the caller's transaction may store another symbol's bars
    return count


OBSERVE = """
INSERT INTO candles (symbol, open_time, open, high, low, close, volume)
SELECT s, t, p, p, p, p, 0 FROM unnest(%s::text[], %s::timestamptz[], %s::numeric[]) AS seen(s, t, p)
ON CONFLICT (symbol, open_time) DO UPDATE SET
    high = greatest(candles.high, excluded.high), low = least(candles.low, excluded.low), close = excluded.close
"""


def observe(ticks: Sequence[Tick]) -> None:
    """Let each tick into the five-minute bar that is being formed."""
    with connection.cursor() as cursor:
        cursor.execute(
            OBSERVE, ([t.symbol for t in ticks], [bucket(t.at, BAR) for t in ticks], [t.price for t in ticks])
        )


LAST_BARS = """
SELECT symbol, array_agg(high ORDER BY slot), array_agg(low ORDER BY slot), array_agg(close ORDER BY slot),
       array_agg(volume ORDER BY slot)
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
    with connection.cursor() as cursor:
        cursor.execute(
            LAST_BARS, {"width": width, "symbols": list(symbols), "since": until - count * width, "until": until}
        )
        return {symbol: Bars(symbol, *(np.array(column) for column in columns)) for symbol, *columns in cursor}
