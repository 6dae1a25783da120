"""The clock: one place that asks, and its buckets."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core import clock

moments = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001 (hypothesis adds the zone)
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
widths = st.integers(1, 14 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@given(moments, widths)
def test_a_moment_lies_within_its_bucket(moment: datetime, width: timedelta) -> None:
    start = clock.bucket(moment, width)

    assert start <= moment < start + width


@given(moments, widths)
def test_a_bucket_starts_its_own_bucket(moment: datetime, width: timedelta) -> None:
    start = clock.bucket(moment, width)

    assert clock.bucket(start, width) == start
    assert clock.bucket(start - timedelta(microseconds=1), width) == start - width


@given(moments)
def test_six_hour_buckets_start_at_0_6_12_and_18(moment: datetime) -> None:
    start = clock.bucket(moment, timedelta(hours=6))

    assert start.hour in {0, 6, 12, 18}
    assert (start.minute, start.second, start.microsecond) == (0, 0, 0)
    assert start.date() == moment.date()


@given(st.datetimes(timezones=st.timezones()))
def test_the_bucket_is_the_same_in_every_time_zone(moment: datetime) -> None:
    width = timedelta(hours=6)
    try:
        same = moment.astimezone(UTC)
    except OverflowError:  # the first and last day that a datetime can hold
        return

    assert clock.bucket(moment, width) == clock.bucket(same, width)


def test_inside_frozen_the_recorded_moment_is_now_and_afterwards_it_is_not() -> None:
    moment = datetime(2017, 12, 1, tzinfo=UTC)
    with clock.frozen(moment):
        with clock.frozen(moment + timedelta(days=1)):
            assert clock.now() == moment + timedelta(days=1)
        assert clock.now() == moment

    assert clock.now() > moment + timedelta(days=2000)


def test_the_machines_clock_answers_in_utc() -> None:
    assert clock.now().utcoffset() == timedelta(0)


def test_a_recorded_clock_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"), clock.frozen(datetime(2017, 12, 1)):  # noqa: DTZ001
        pass


def test_a_moment_is_brought_to_utc_and_one_without_a_zone_is_utc() -> None:
    assert clock.utc(datetime.fromisoformat("2026-03-02T12:00:00+02:00")) == datetime(
        2026, 3, 2, 10, tzinfo=UTC
    )
    assert clock.utc(datetime(2026, 3, 2)) == datetime(2026, 3, 2, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_moment_outside_the_calendar_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="outside the years"):
        clock.utc(datetime.fromisoformat(text))
    with pytest.raises(ValueError, match="outside the years"):
        clock.day(text)
