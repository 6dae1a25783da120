"""Store indicator snapshots, computed once per symbol and closed bar, so that later lookups return the same values.

A snapshot covers only bars that had closed by `until`, so there is no look-ahead. If earlier bars are backfilled, later
lookups get a new snapshot; the old row is kept for the signals that used it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper
from psycopg.types.json import Jsonb

from maxxit.core import clock
from maxxit.market import candles
from maxxit.market.bars import Snapshot

KEPT = """
SELECT symbol, id, figures FROM market_snapshots
WHERE symbol = ANY(%(symbols)s) AND until = %(until)s AND terms = %(terms)s AND NOT superseded
"""
KEEP = """
INSERT INTO market_snapshots (symbol, window_start, until, terms, figures, made_at, superseded)
SELECT s, %(window)s, %(until)s, %(terms)s, f, %(now)s, false
FROM unnest(%(symbols)s::text[], %(figures)s::jsonb[]) AS new(s, f)
ON CONFLICT (symbol, until, terms) WHERE NOT superseded DO UPDATE SET symbol = excluded.symbol
RETURNING symbol, id, figures
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot and the id of its row."""

    row: int
    figures: Snapshot


@dataclass(frozen=True, slots=True)
class Terms:
    """The bars of a snapshot: the newest `count` of `width`; no snapshot with fewer than `warm_up`."""

    width: timedelta
    count: int
    warm_up: int
    window: timedelta
    """The signal bucket; snapshots are indexed by it."""

    def __str__(self) -> str:
        return f"{int(self.width.total_seconds()) // 60} min x {self.count}, {self.warm_up} to warm up"


def of(symbols: Sequence[str], terms: Terms, at: datetime) -> dict[str, Kept]:
    """Return the snapshot of each symbol over the bars closed by `at`; symbols without enough bars are left out."""
    known: dict[str, Any] = {
        "symbols": list(symbols),
        "until": clock.bucket(at, terms.width),
        "terms": str(terms),
        "window": clock.bucket(at, terms.window),
        "now": clock.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(KEPT, known)
        found = _read(cursor)
        missing = [symbol for symbol in symbols if symbol not in found]
        if not missing:
            return found
        from maxxit.market.indicators import snapshot  # imports TA-Lib only where it is needed

        bars = candles.last_bars(missing, width=terms.width, count=terms.count, at=at)
        made = {
            symbol: it for symbol in sorted(bars) if (it := snapshot(bars[symbol], warm_up=terms.warm_up))
        }
        if made:
            figures = [Jsonb(asdict(one)) for one in made.values()]
            cursor.execute(KEEP, known | {"symbols": list(made), "figures": figures})
            found |= _read(cursor)
    return found


def _read(cursor: CursorWrapper) -> dict[str, Kept]:
    return {symbol: Kept(row, Snapshot(**_floats(figures))) for symbol, row, figures in cursor}


def _floats(figures: str) -> dict[str, float]:
    """Parse stored figures: raw SQL returns JSON as text, and a whole number such as 100 as an int."""
    return {name: float(value) for name, value in json.loads(figures).items()}
