"""The monthly parts of the one-minute bars: made when a month begins, dropped when it is old.

The application's database role may not create tables: two functions in the database do it with their owner's rights.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime
from functools import partial

from django.db import connection, transaction

_known: set[date] = set()
"""Months whose part this process has seen committed."""


def ensure(moments: Collection[datetime]) -> None:
    """Make the part for the month of each moment, if it is not there."""
    for month in {_month(moment) for moment in moments} - _known:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT make_candles_part(%s)", [month])
        transaction.on_commit(partial(_known.add, month))


def drop_before(moment: datetime) -> list[str]:
    """Drop the parts that hold nothing newer than `moment`; returns their names."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM drop_candles_parts(%s)", [_month(moment)])
        old = [name for (name,) in cursor]
    _known.clear()
    return old


def _month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)
