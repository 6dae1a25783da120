"""Store each source's latest quote, and rejected quotes with reason and count, in the database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import connection

from maxxit.core import clock
from maxxit.market.feeds.base import Tick
from maxxit.market.models import SourceQuote
from maxxit.market.validation import Verdict

HOUR = timedelta(hours=1)
REFUSE = """
INSERT INTO refused_quotes (symbol, source, reason, hour, price, value, "limit", times, first_at, last_at)
SELECT s, o, r, %(hour)s, left(p, 60), left(v, 80), left(l, 40), 1, %(now)s, %(now)s
FROM unnest(%(symbols)s::text[], %(sources)s::text[], %(reasons)s::text[], %(prices)s::text[], %(values)s::text[],
            %(limits)s::text[]) AS new(s, o, r, p, v, l)
ON CONFLICT (symbol, source, reason, hour) DO UPDATE SET
    times = refused_quotes.times + 1, last_at = excluded.last_at, price = excluded.price, value = excluded.value,
    "limit" = excluded."limit"
"""
KEEP = """
INSERT INTO source_quotes (symbol, source, price, at, confidence, received_at)
SELECT s, o, p, t, c, %s
FROM unnest(%s::text[], %s::text[], %s::numeric[], %s::timestamptz[], %s::numeric[]) AS new(s, o, p, t, c)
ON CONFLICT (symbol, source) DO UPDATE SET price = excluded.price, at = excluded.at,
    confidence = excluded.confidence, received_at = excluded.received_at
WHERE source_quotes.at <= excluded.at
"""


def latest_by_source(symbols: Collection[str], since: datetime) -> Mapping[str, dict[str, Tick]]:
    """Return symbol -> source -> the latest tick of that source, if newer than `since`."""
    latest: dict[str, dict[str, Tick]] = {symbol: {} for symbol in symbols}
    for row in SourceQuote.objects.filter(symbol__in=list(symbols), at__gte=since):
        latest[row.symbol][row.source] = Tick(row.symbol, row.price, row.at, row.source, row.confidence)
    return latest


def store_rejected(verdicts: Iterable[Verdict], now: datetime) -> None:
    """Store rejected quotes: one row per symbol, source, reason and hour, with a count."""
    rejected = {(no.symbol, no.source, no.reason): no for verdict in verdicts for no in verdict.refused}
    if not rejected:
        return
    rows = [rejected[key] for key in sorted(rejected)]
    with connection.cursor() as cursor:
        cursor.execute(
            REFUSE,
            {
                "hour": clock.bucket(now, HOUR),
                "now": now,
                "symbols": [no.symbol for no in rows],
                "sources": [no.source for no in rows],
                "reasons": [no.reason for no in rows],
                "prices": [no.price for no in rows],
                "values": [no.value for no in rows],
                "limits": [no.limit for no in rows],
            },
        )


def store_latest(ticks: Sequence[Tick], verdicts: Iterable[Verdict], now: datetime) -> None:
    """Store each source's newest price, unless it was invalid in itself (one that only deviates is stored)."""
    invalid = {(no.symbol, no.source) for v in verdicts for no in v.refused if no.reason != "deviates"}
    valid = sorted(
        (t for t in ticks if (t.symbol, t.source) not in invalid), key=lambda tick: (tick.symbol, tick.source)
    )
    if valid:
        columns = zip(*((t.symbol, t.source, t.price, t.at, t.confidence) for t in valid), strict=True)
        with connection.cursor() as cursor:
            cursor.execute(KEEP, [now, *(list(column) for column in columns)])
