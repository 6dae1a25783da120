"""Create and drop the monthly partitions of the one-minute bars.

The application's database role may not create tables: two SECURITY DEFINER functions in the database do it.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime
from functools import partial

from django.db import connection, transaction

_known: set[date] = set()
"""Months whose partition this process knows to be committed."""


def ensure(moments: Collection[datetime]) -> None:
    """Create the partitions of these times' months where they are missing."""
    for month in {_month(moment) for moment in moments} - _known:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT make_candles_part(%s)", [month])
        transaction.on_commit(partial(_known.add, month))


def drop_before(moment: datetime) -> list[str]:
    """Drop the partitions of months before that of `moment`; return their names."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM drop_candles_parts(%s)", [_month(moment)])
        old = [name for (name,) in cursor]
    _known.clear()
    return old


def _month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)
