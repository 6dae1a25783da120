"""The trading sessions of the New York stock exchange: a broker's calendar where stored, else the exchange's rules.

`trading.tasks.refresh_calendar` stores the sessions that a broker publishes, for the days that it covers. Beyond them,
and before anything is stored, the exchange's published rules apply: holidays, and days that end at 13:00. All times
are UTC; a session's times are those of New York, so that daylight saving time is right.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from django.db import transaction

from maxxit.market.models import CalendarCoverage, MarketSession

EXCHANGE = "New York exchange"
"""For people."""
NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES, CLOSES_EARLY = time(9, 30), time(16), time(13)
ONE_DAY = timedelta(days=1)
LONGEST_CLOSURE = 14
"""Days without a session after which `next_open` gives up."""


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day, without the extended hours."""

    day: date
    """In New York."""
    opens_at: datetime
    closes_at: datetime

    @classmethod
    def of(cls, day: date, opens: time, closes: time) -> "Session":
        """Return the session of a day from its times in New York."""
        opens_at, closes_at = (datetime.combine(day, at, NEW_YORK).astimezone(UTC) for at in (opens, closes))
        return cls(day, opens_at, closes_at)

    @property
    def is_short(self) -> bool:
        """Whether it ends before 16:00 in New York."""
        return self.closes_at.astimezone(NEW_YORK).time() < CLOSES


def session_of(day: date) -> Session | None:
    """Return the session of a day in New York; None where the exchange stays closed."""
    covered = CalendarCoverage.objects.filter(first_day__lte=day, last_day__gte=day).exists()
    if not covered:
        return session_by_rule(day)
    row = MarketSession.objects.filter(day=day).first()
    return Session(row.day, row.opens_at, row.closes_at) if row else None


def sessions(first: date, last: date) -> Iterator[Session]:
    """Yield the sessions from one day in New York to another, both included, in two queries."""
    coverage = CalendarCoverage.objects.first()
    rows = {row.day: row for row in MarketSession.objects.filter(day__range=(first, last))}
    for offset in range((last - first).days + 1):
        day = first + offset * ONE_DAY
        if coverage is not None and coverage.first_day <= day <= coverage.last_day:
            if row := rows.get(day):
                yield Session(row.day, row.opens_at, row.closes_at)
        elif session := session_by_rule(day):
            yield session


def is_open(at: datetime) -> bool:
    """Return whether the exchange trades at a moment, extended hours not counted."""
    session = session_of(at.astimezone(NEW_YORK).date())
    return session is not None and session.opens_at <= at < session.closes_at


def next_open(at: datetime) -> datetime:
    """Return when the exchange opens next after a moment. Raises LookupError where none is known for two weeks."""
    day = at.astimezone(NEW_YORK).date()
    for session in sessions(day, day + LONGEST_CLOSURE * ONE_DAY):
        if session.opens_at > at:
            return session.opens_at
    raise LookupError(f"no session of the {EXCHANGE} within {LONGEST_CLOSURE} days after {at}")


def closed_text(at: datetime) -> str:
    """Return for people that the exchange is closed, and until when."""
    return f"the {EXCHANGE} is closed until {next_open(at):%a %d %b %H:%M} UTC"


@transaction.atomic
def store(published: Iterable[Session], first: date, last: date, *, now: datetime) -> int:
    """Replace the stored sessions by those that a broker publishes for `first` to `last`; return how many.

    What was stored of earlier days is kept: a session that is over does not change any more.
    """
    rows = [session for session in published if first <= session.day <= last]
    coverage = CalendarCoverage.objects.select_for_update().first()
    MarketSession.objects.filter(day__gte=first).delete()
    MarketSession.objects.bulk_create(
        MarketSession(day=row.day, opens_at=row.opens_at, closes_at=row.closes_at) for row in rows
    )
    joins = coverage is not None and coverage.first_day <= first <= coverage.last_day + ONE_DAY
    if coverage is not None and not joins:
        MarketSession.objects.filter(day__lt=first).delete()
    begins = coverage.first_day if coverage is not None and joins else first
    CalendarCoverage.objects.update_or_create(
        pk=1, defaults={"first_day": begins, "last_day": last, "read_at": now}
    )
    return len(rows)


def session_by_rule(day: date) -> Session | None:
    """Return the session of a day by the exchange's rules (NYSE rules 7.2 and 7.1, since 2022). Pure."""
    if day.weekday() >= 5 or day in _holidays(day.year):
        return None
    return Session.of(day, OPENS, CLOSES_EARLY if day in _short_days(day.year) else CLOSES)


@cache
def _holidays(year: int) -> frozenset[date]:
    """Return the holidays of a year.

    One on a Saturday is observed on Friday, one on a Sunday on Monday; New Year's Day on a Saturday is not observed.
    """
    observed = [_observed(date(year, month, day)) for month, day in ((6, 19), (7, 4), (12, 25))]
    new_year = date(year, 1, 1)
    if new_year.weekday() != 5:
        observed.append(_observed(new_year))
    thanksgiving = _weekday(year, 11, 3, 4)
    moving = (
        _weekday(year, 1, 0, 3), _weekday(year, 2, 0, 3), _easter(year) - 2 * ONE_DAY, _last_monday(year, 5),
        _weekday(year, 9, 0, 1), thanksgiving,
    )  # fmt: skip
    return frozenset((*observed, *moving))


@cache
def _short_days(year: int) -> frozenset[date]:
    """Return the days of a year that end at 13:00: before Independence Day, after Thanksgiving, Christmas Eve."""
    candidates = (date(year, 7, 3), _weekday(year, 11, 3, 4) + ONE_DAY, date(year, 12, 24))
    return frozenset(day for day in candidates if day.weekday() < 5 and day not in _holidays(year))


def _observed(day: date) -> date:
    return day + {5: -1, 6: 1}.get(day.weekday(), 0) * ONE_DAY


def _weekday(year: int, month: int, weekday: int, number: int) -> date:
    """Return the n-th weekday (0 = Monday) of a month."""
    first = date(year, month, 1)
    return first + ((weekday - first.weekday()) % 7 + 7 * (number - 1)) * ONE_DAY


def _last_monday(year: int, month: int) -> date:
    last = date(year + month // 12, month % 12 + 1, 1) - ONE_DAY
    return last - last.weekday() * ONE_DAY


def _easter(year: int) -> date:
    """Return Easter Sunday (Gregorian; Meeus, Jones and Butcher)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)
