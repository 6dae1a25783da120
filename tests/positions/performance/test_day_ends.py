"""Each day of each market ends once: at the right time whatever the clocks do, and after a crash at any point."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from agents.models import Deployment
from maxxit.events.models import Event
from maxxit.market import calendar
from maxxit.pipeline.schedule import schedule
from positions.models import DailySummary, DayEnd
from positions.performance import day_ends, end_of_day, points
from positions.performance.day_ends import Day, Market, days
from tests import builders as make
from tests.builders import RecordedClock
from trading.models import PaperBalance
from trading.reconciliation import hours

D = Decimal
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)
TASK = "positions.tasks.end_days"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sessions(first: date, last: date) -> list[calendar.Session]:
    """The exchange's sessions by rule, without a database."""
    wanted = (first + n * DAY for n in range((last - first).days + 1))
    return [session for day in wanted if (session := calendar.session_by_rule(day))]


@pytest.fixture(scope="module")
def two_years() -> list[calendar.Session]:
    return sessions(FIRST, LAST)


def moments(session: calendar.Session) -> list[datetime]:
    """When the jobs in New York's time run within an hour after the close."""
    jobs = [one for one in schedule().values() if one.task == TASK and one.zone == "America/New_York"]
    after = session.closes_at, session.closes_at + timedelta(hours=1)
    return sorted(moment for job in jobs for moment in job.moments(*after, MINUTE))


def test_beat_runs_ten_and_thirty_minutes_after_each_close_of_two_years(
    two_years: list[calendar.Session],
) -> None:
    assert len(two_years) > 500
    wrong = [
        session
        for session in two_years
        if moments(session) != [session.closes_at + 10 * MINUTE, session.closes_at + 30 * MINUTE]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("day", "summary", "end"),
    [
        ("2026-03-06", "21:10", "21:30"),  # winter time
        ("2026-03-09", "20:10", "20:30"),  # the Monday after clocks went forward
        ("2026-10-30", "20:10", "20:30"),
        ("2026-11-02", "21:10", "21:30"),  # the Monday after clocks went back
        ("2026-11-27", "18:10", "18:30"),  # ends at 13:00
        ("2026-12-24", "18:10", "18:30"),  # ends at 13:00
    ],
)
def test_the_times_follow_new_york(day: str, summary: str, end: str) -> None:
    session = calendar.session_by_rule(date.fromisoformat(day))
    assert session is not None
    one = Day(Market.STOCKS, session.day, session.closes_at)
    assert (one.summary_at, one.end_at) == (utc(f"{day} {summary}"), utc(f"{day} {end}"))


@pytest.mark.parametrize("day", ["2026-11-26", "2026-12-25", "2026-07-03", "2026-11-28"])
def test_a_closed_exchange_has_no_end_of_day(day: str) -> None:
    noon = utc(f"{day} 23:59")
    found = days(noon, sessions(noon.date(), noon.date()), noon - DAY)
    assert [one.market for one in found] == [Market.CRYPTO]


def test_every_session_and_every_utc_day_of_two_years_ends_exactly_once(
    two_years: list[calendar.Session],
) -> None:
    """Run the job at each of its times, and once more late at night after a crash of the whole machine."""
    ended: Counter[tuple[str, date]] = Counter()
    at: dict[tuple[str, date], datetime] = {}
    begin, end = datetime.combine(FIRST, datetime.min.time(), UTC), utc("2028-01-01 12:00")
    ticks = {begin + n * timedelta(minutes=15) for n in range(int((end - begin) / timedelta(minutes=15)) + 1)}
    ticks |= {moment for session in two_years for moment in moments(session)}
    by_day: dict[date, list[calendar.Session]] = {}
    for session in two_years:
        by_day.setdefault(session.day, []).append(session)
    for now in sorted(ticks):
        near = [one for n in (2, 1, 0) for one in by_day.get(now.date() - n * DAY, [])]
        for one in days(now, near, max(begin, now - 2 * DAY)):
            key = (one.market, one.day)
            if now >= one.end_at and key not in at:
                ended[key] += 1
                at[key] = now
    stocks = {(Market.STOCKS, session.day): session for session in two_years}
    crypto = {(Market.CRYPTO, FIRST + n * DAY) for n in range((LAST - FIRST).days + 1)}
    assert ended == Counter([*stocks, *crypto])
    assert all(at[key] == session.closes_at + 30 * MINUTE for key, session in stocks.items())
    assert all(at[key] == datetime.combine(key[1] + DAY, datetime.min.time(), UTC) for key in crypto)


# --- with rows


@pytest.fixture
def deployment(time: RecordedClock, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A paper deployment with a point of equity; `paper` trades stocks and crypto."""
    monkeypatch.setattr(hours, "stocks_of", lambda name: frozenset({"AAPL"} if name == "paper" else ()))
    monkeypatch.setattr(hours, "venues_of", lambda *, stocks: ["paper"])
    make.price("ETH", "2000")
    made = make.deployment(make.agent())
    points.take_points()
    return made


def events(name: str = "end_of_day") -> list[tuple[str, str, bool]]:
    found = Event.objects.filter(name=name).order_by("pk")
    return [(one.data["market"], one.data["day"], one.data.get("ok")) for one in found]


@pytest.mark.django_db
def test_a_session_is_summarised_and_ended_and_the_utc_day_after_it(
    deployment: Deployment, time: RecordedClock
) -> None:
    time.to(utc("2026-03-02 21:09"))
    day_ends.end_due()
    assert events("portfolio_summary") == events() == []
    time.to(utc("2026-03-02 21:10"))
    day_ends.end_due()
    assert [row[:2] for row in events("portfolio_summary")] == [("stocks", "2026-03-02")]
    assert events() == []
    time.to(utc("2026-03-02 21:30"))
    day_ends.end_due()
    assert events() == [("stocks", "2026-03-02", True)]
    time.to(utc("2026-03-03 00:00"))
    day_ends.end_due()
    assert events() == [("stocks", "2026-03-02", True), ("crypto", "2026-03-02", True)]
    assert Event.objects.filter(name="PNL_DAILY_SUMMARY").count() == 1
    for _ in range(2):
        time.move(minutes=15)
        day_ends.end_due()
    assert len(events()) == 2
    assert len(events("portfolio_summary")) == 1
    event = Event.objects.get(name="end_of_day", data__market="crypto")
    assert event.data["equity_usd"] == "10000"
    assert [step["ok"] for step in DayEnd.objects.get(market="crypto").steps.values()] == [True] * 5


class Killed(BaseException):
    """The worker is killed."""


def crash_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Kill the worker before and after each thing that it does."""
    for owner, name in (
        (end_of_day, "_settle"),
        (end_of_day, "_book"),
        (end_of_day, "_reconcile"),
        (end_of_day, "_compute"),
        (end_of_day, "save"),
        (day_ends, "record"),
        (day_ends, "_finish"),
    ):
        for after in (False, True):
            real = getattr(owner, name)

            def dying(*args: Any, after: bool = after, real: Any = real, **options: Any) -> Any:
                if not after:
                    raise Killed
                real(*args, **options)
                raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, dying)
                yield f"{'after' if after else 'before'} {name}"


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed_anywhere_leaves_the_rest_to_the_next_and_nothing_twice(
    deployment: Deployment, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.to(utc("2026-03-03 00:00"))
    killed = []
    for where in crash_points(monkeypatch):
        try:
            day_ends.end_due()
        except Killed:
            killed.append(where)
    assert len(killed) >= 10, killed
    day_ends.end_due()
    day_ends.end_due()
    assert sorted(events()) == [("crypto", "2026-03-02", True), ("stocks", "2026-03-02", True)]
    assert len(events("portfolio_summary")) == 1
    assert Event.objects.filter(name="PNL_DAILY_SUMMARY").count() == 1
    assert DailySummary.objects.filter(deployment=None).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("broken", ["_summarise", "end"])
def test_a_day_that_fails_stops_no_other_and_is_ended_later(
    deployment: Deployment, time: RecordedClock, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    time.to(utc("2026-03-03 00:00"))
    real = getattr(day_ends, broken)

    def failing(one: Day) -> bool:
        return bool(1 / 0) if one.market == Market.STOCKS else bool(real(one))

    with monkeypatch.context() as patch:
        patch.setattr(day_ends, broken, failing)
        day_ends.end_due()
    assert ("crypto", "2026-03-02", True) in events()
    day_ends.end_due()
    assert ("stocks", "2026-03-02", True) in events()


@pytest.mark.django_db
def test_a_step_that_fails_is_repeated_and_named_after_three_hours(
    deployment: Deployment, time: RecordedClock
) -> None:
    PaperBalance.objects.filter(account=deployment.account).update(amount=D(9_000))
    time.to(utc("2026-03-03 00:00"))
    day_ends.end_due()
    assert events() == []
    row = DayEnd.objects.get(market="crypto")
    wrong = [name for name, step in row.steps.items() if not step["ok"]]
    assert wrong == ["reconcile accounts with their venues"]
    assert row.finished_at is None
    time.to(utc("2026-03-03 02:45"))
    day_ends.end_due()
    assert events() == [("stocks", "2026-03-02", False)]
    time.to(utc("2026-03-03 03:00"))
    day_ends.end_due()
    assert events()[1:] == [("crypto", "2026-03-02", False)]
    assert Event.objects.get(name="end_of_day", data__market="crypto").data["failed"] == wrong


@pytest.mark.django_db
def test_a_step_that_failed_is_done_again_and_the_others_are_not(
    deployment: Deployment, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    PaperBalance.objects.filter(account=deployment.account).update(amount=D(9_000))
    time.to(utc("2026-03-03 00:00"))
    day_ends.end_due()
    PaperBalance.objects.filter(account=deployment.account).update(amount=D(10_000))
    monkeypatch.setattr(end_of_day, "_settle", lambda names: pytest.fail("it had succeeded"))
    time.move(minutes=15)
    day_ends.end_due()
    assert ("crypto", "2026-03-02", True) in events()
    assert DayEnd.objects.get(market="crypto").attempts == 2


@pytest.mark.django_db
def test_days_before_anything_was_traded_have_no_end(deployment: Deployment, time: RecordedClock) -> None:
    time.to(utc("2026-03-12 00:00"))
    day_ends.end_due()
    of_crypto = sorted(day for market, day, _ in events() if market == "crypto")
    assert of_crypto == [f"2026-03-{n:02}" for n in range(5, 12)], "the last week"
    of_stocks = sorted(day for market, day, _ in events() if market == "stocks")
    assert of_stocks == [f"2026-03-{n:02}" for n in (5, 6, 9, 10, 11)]


@pytest.mark.django_db
def test_nothing_ends_where_nothing_was_traded(time: RecordedClock) -> None:
    assert day_ends.end_due().out == 0
    assert not DayEnd.objects.exists()
