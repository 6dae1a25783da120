"""The monthly parts of the one-minute bars: made when a month begins, dropped when it is old."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial

from django.db import connection, transaction

_known: set[str] = set()
"""Parts that this process has seen committed."""


def ensure(moments: Collection[datetime]) -> None:
    """Make the part for the month of each moment, if it is not there."""
    for start in {_month(moment) for moment in moments}:
        name = f"candles_1m_{start:%Y_%m}"
        if name not in _known:
            _make(name, start)
            transaction.on_commit(partial(_known.add, name))


def _make(name: str, start: datetime) -> None:
    end = _month(start + timedelta(days=32))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone() != (None,):
            return
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('candles_1m', 0))"
        )  # IF NOT EXISTS races
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF candles_1m "
            f"FOR VALUES FROM ('{start:%Y-%m-%d}Z') TO ('{end:%Y-%m-%d}Z')"
        )


def drop_before(moment: datetime) -> list[str]:
    """Drop the parts that hold nothing newer than `moment`; returns their names."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'candles_1m'::regclass"
        )
        old = sorted(name for (name,) in cursor if name < f"candles_1m_{_month(moment):%Y_%m}")
        for name in old:
            cursor.execute(f"DROP TABLE {name}")
    _known.difference_update(old)
    return old


def _month(moment: datetime) -> datetime:
    at = moment.astimezone(UTC)
    return datetime(at.year, at.month, 1, tzinfo=UTC)
