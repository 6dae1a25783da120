"""Sessions of the New York exchange: what a broker published, else the rules, held against exchange-calendars."""

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from maxxit.market import calendar
from maxxit.market.calendar import NEW_YORK, Session, session_by_rule

RECORDED = json.loads((Path(__file__).parent / "recorded/xnys-exchange-calendars-4.13.2.json").read_text())
"""Made by the library named in it: weekdays without a session, short days with their close, four days' hours."""
UNFORESEEN = {"2025-01-09"}
"""A national day of mourning: no rule knows it, the broker's calendar does."""


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def test_the_rules_agree_with_exchange_calendars_over_six_years() -> None:
    every = days(date.fromisoformat(RECORDED["first"]), date.fromisoformat(RECORDED["last"]))
    known = {day: session_by_rule(day) for day in every}
    closed = {f"{day}" for day, session in known.items() if session is None and day.weekday() < 5}
    assert closed == set(RECORDED["closed_weekdays"]) - UNFORESEEN
    short = {
        f"{day}": f"{session.closes_at:%H:%M}"
        for day, session in known.items()
        if session and session.is_short
    }
    assert short == RECORDED["short_days_close_utc"]


@pytest.mark.parametrize("day", RECORDED["hours_utc"])
def test_daylight_saving_time_moves_the_hours_in_utc(day: str) -> None:
    session = session_by_rule(date.fromisoformat(day))
    assert session is not None
    assert [f"{session.opens_at:%H:%M}", f"{session.closes_at:%H:%M}"] == RECORDED["hours_utc"][day]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("moment", "opened"),
    [
        ("2026-11-25 14:29:59", False),
        ("2026-11-25 14:30", True),
        ("2026-11-25 20:59:59", True),
        ("2026-11-25 21:00", False),
        ("2026-11-26 16:00", False),  # Thanksgiving
        ("2026-11-27 17:59:59", True),
        ("2026-11-27 18:00", False),  # ends at 13:00 in New York
        ("2026-11-28 16:00", False),
    ],
)
def test_it_is_open_from_its_opening_to_before_its_close(moment: str, opened: bool) -> None:
    assert calendar.is_open(at(moment)) is opened


@pytest.mark.django_db
def test_a_closed_exchange_names_its_next_opening() -> None:
    friday = at("2026-11-27 18:00")
    assert calendar.next_open(friday) == at("2026-11-30 14:30")
    assert calendar.closed_text(friday) == "the New York exchange is closed until Mon 30 Nov 14:30 UTC"
    assert calendar.next_open(at("2026-11-30 14:29")) == at("2026-11-30 14:30")
    assert calendar.next_open(at("2026-11-30 14:30")) == at("2026-12-01 14:30")


def published(first: date, last: date, *left_out: date) -> list[Session]:
    return [
        session
        for day in days(first, last)
        if day not in left_out and (session := session_by_rule(day)) is not None
    ]


@pytest.mark.django_db
def test_what_a_broker_published_goes_before_the_rules_and_only_for_its_days() -> None:
    first, last, mourning = date(2026, 11, 23), date(2026, 12, 31), date(2026, 12, 9)
    rows = published(first, last, mourning)
    rows[0] = Session.of(first, time(9, 30), time(12))
    calendar.store(rows, first, last, now=at("2026-11-23 05:00"))

    assert calendar.session_of(mourning) is None
    assert calendar.session_of(first) == rows[0]
    assert calendar.session_of(date(2027, 1, 4)) == session_by_rule(date(2027, 1, 4))
    assert calendar.session_of(date(2026, 11, 20)) == session_by_rule(date(2026, 11, 20))
    assert [row.day for row in calendar.sessions(mourning, mourning + timedelta(days=1))] == [
        date(2026, 12, 10)
    ]
    assert calendar.next_open(at("2026-12-08 22:00")) == at("2026-12-10 14:30")


@pytest.mark.django_db
def test_a_later_reading_replaces_coming_days_and_keeps_those_that_are_over() -> None:
    first, last, closed = date(2026, 11, 23), date(2026, 12, 31), date(2026, 11, 24)
    calendar.store(published(first, last, closed), first, last, now=at("2026-11-23 05:00"))
    again, further = date(2026, 11, 30), date(2027, 1, 31)
    calendar.store(published(again, further), again, further, now=at("2026-11-30 05:00"))
    assert calendar.session_of(closed) is None
    assert calendar.session_of(date(2027, 1, 4)) is not None
    assert {row.day for row in calendar.sessions(first, further)} == {
        row.day for row in published(first, further, closed)
    }


@pytest.mark.django_db
def test_after_a_gap_nothing_is_claimed_of_the_days_between() -> None:
    calendar.store([], date(2026, 1, 5), date(2026, 1, 9), now=at("2026-01-05 05:00"))
    calendar.store([], date(2026, 3, 2), date(2026, 3, 6), now=at("2026-03-02 05:00"))
    assert calendar.session_of(date(2026, 3, 3)) is None
    assert calendar.session_of(date(2026, 1, 6)) == session_by_rule(date(2026, 1, 6))
    assert calendar.session_of(date(2026, 2, 3)) == session_by_rule(date(2026, 2, 3))


def test_a_session_has_the_times_of_new_york() -> None:
    session = Session.of(date(2026, 7, 6), time(9, 30), time(16))
    assert session.opens_at == datetime(2026, 7, 6, 9, 30, tzinfo=NEW_YORK)
    assert not session.is_short
