"""Times that are read from Postgres."""

from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from django.db import DataError, connection
from hypothesis import given
from hypothesis import strategies as st

from maxxit.postgres.base import UtcLoader

pytestmark = pytest.mark.django_db


def selected(text: str) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [text])
        [found] = cursor.fetchone()
        assert isinstance(found, datetime)
        return found


def test_our_loader_is_the_one_in_use() -> None:
    loader = connection.cursor().adapters.get_loader(
        psycopg.postgres.types["timestamptz"].oid, psycopg.pq.Format.TEXT
    )
    assert loader is UtcLoader


ZONES = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
SECONDS = st.integers(-2_000_000_000, 200_000_000_000)


@given(SECONDS, st.integers(0, 999_999), ZONES)
def test_a_moment_comes_back_in_utc_to_the_microsecond(
    seconds: int, microseconds: int, zone: timezone
) -> None:
    moment = datetime.fromtimestamp(seconds, zone) + timedelta(microseconds=microseconds)
    found = selected(moment.isoformat())
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "text", ["2026-12-01 12:00:00+00", "2026-12-01 12:00:00.5+00", "2026-12-01T12:00:00.000001Z"]
)
def test_fractions_of_any_length_are_read(text: str) -> None:
    assert selected(text) == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    "text", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "10000-01-01 00:00:00+00"]
)
def test_what_a_datetime_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        selected(text)
