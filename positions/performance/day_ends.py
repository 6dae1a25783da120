"""End each market's day once: the exchange's session half an hour after its close, crypto's UTC day at midnight.

A day is a row (`DayEnd`). Each step is stored as soon as it is done, so that a worker that is killed leaves the rest to
the next run; the event `end_of_day` and the end of the row are one transaction. A step that fails is repeated for
`GIVE_UP`; then the day ends with what is wrong named.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Min

from maxxit.core import clock
from maxxit.core.money import plain, usdc
from maxxit.events.record import record
from maxxit.market import calendar
from maxxit.pipeline.runs import Counts
from positions.models import DailySummary, DayEnd, EquityPoint, Position
from positions.performance import end_of_day, summary
from positions.states import PositionState
from trading.passes import ends_the_pass
from trading.reconciliation import hours

log = structlog.get_logger(__name__)
Market = DayEnd.Market

SUMMARY_AFTER, END_AFTER = timedelta(minutes=10), timedelta(minutes=30)
"""After the close of the exchange: 16:10 and 16:30 in New York, 13:10 and 13:30 on short days."""
CATCH_UP = timedelta(days=7)
"""Days that were over longer ago are not ended any more."""
GIVE_UP = timedelta(hours=3)
EVENT, SUMMARY_EVENT = "end_of_day", "portfolio_summary"


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a market that is over."""

    market: str
    day: date
    closed_at: datetime

    @property
    def summary_at(self) -> datetime | None:
        """Return when its summary is due; crypto has none besides the one that is saved."""
        return self.closed_at + SUMMARY_AFTER if self.market == Market.STOCKS else None

    @property
    def end_at(self) -> datetime:
        """Return when it is ended."""
        return self.closed_at + (END_AFTER if self.market == Market.STOCKS else timedelta(0))


def days(now: datetime, sessions: Iterable[calendar.Session], first: datetime) -> list[Day]:
    """Return the days that were over by `now` and not before `first`, oldest first. Pure function."""
    stocks = [Day(Market.STOCKS, one.day, one.closes_at) for one in sessions]
    midnight = datetime.combine(now.date(), time(0), tzinfo=UTC)
    crypto, begun = [], midnight
    while begun > first:
        crypto.append(Day(Market.CRYPTO, (begun - timedelta(days=1)).date(), begun))
        begun -= timedelta(days=1)
    return sorted(
        (one for one in (*stocks, *crypto) if first < one.closed_at <= now),
        key=lambda one: (one.closed_at, one.market),
    )


def over(now: datetime) -> list[Day]:
    """Return the days of the last week that are over, from when anything was traded; stocks where a venue has them."""
    begun = EquityPoint.objects.aggregate(at=Min("at"))["at"]
    if begun is None:
        return []
    first = max(now - CATCH_UP, begun)
    there = [moment.astimezone(calendar.NEW_YORK).date() for moment in (first, now)]
    sessions = calendar.sessions(there[0], there[1]) if hours.venues_of(stocks=True) else ()
    return days(now, sessions, first)


def end_due(now: datetime | None = None) -> Counts:
    """Summarise and end every day that is due and not ended; a day that fails stops no other."""
    now = now or clock.now()
    found = over(now)
    finished = {
        (row.market, row.day): row
        for row in DayEnd.objects.filter(day__in={one.day for one in found}, finished_at__isnull=False)
    }
    due = [one for one in found if (one.market, one.day) not in finished]
    summarised = ended = 0
    for one in due:
        if one.summary_at is not None and now >= one.summary_at:
            summarised += _tried(_summarise, one)
        if now >= one.end_at:
            ended += _tried(end, one)
    return Counts(len(due), summarised + ended, {"summarised": summarised, "ended": ended})


def _tried(step: Callable[[Day], bool], one: Day) -> bool:
    """Return what `step` did for a day; False where it failed, which is logged and tried again by the next run."""
    try:
        return step(one)
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("day_not_ended", market=one.market, day=one.day.isoformat(), error=str(error))
        return False


def newest() -> list[DayEnd]:
    """Return the newest day of each market that was begun to be ended."""
    return list(DayEnd.objects.order_by("market", "-day").distinct("market"))


def _row(one: Day) -> DayEnd:
    row, _ = DayEnd.objects.get_or_create(
        market=one.market, day=one.day, defaults={"closed_at": one.closed_at}
    )
    return row


@transaction.atomic
def _summarise(one: Day) -> bool:
    """Record the portfolio's summary of a session once; return whether it was recorded now."""
    row = _row(one)
    if not DayEnd.objects.filter(pk=row.pk, summarised_at=None).update(summarised_at=clock.now()):
        return False
    figures = _figures(_saved_so_far(one.closed_at.date()))
    record(SUMMARY_EVENT, row, market=one.market, day=one.day.isoformat(), **figures)
    log.info("PORTFOLIO_SUMMARY", market=one.market, day=one.day.isoformat(), **figures)
    return True


def _figures(rows: list[DailySummary]) -> dict[str, Any]:
    """Return the figures of all deployments together; amounts as decimal strings in USD."""
    total = rows[0] if rows else None
    names = ("equity_usd", "day_pnl_usd", "realized_pnl_usd", "unrealized_pnl_usd")
    amounts = {name: plain(usdc(getattr(total, name))) if total else None for name in names}
    positions = Position.objects.exclude(state=PositionState.CLOSED).count()
    return amounts | {"trades": total.num_trades if total else 0, "open_positions": positions}


def run_steps(one: Day) -> Iterator[end_of_day.Step]:
    """Run the steps of a day that have not succeeded yet, storing each as soon as it is done."""
    row = _row(one)
    DayEnd.objects.filter(pk=row.pk).update(attempts=F("attempts") + 1)
    todo = end_of_day.steps(hours.venues_of(stocks=one.market == Market.STOCKS), lambda: _save(one))
    todo = {name: step for name, step in todo.items() if not row.steps.get(name, {}).get("ok")}
    for step in end_of_day.run(todo):
        row.steps[step.name] = {"ok": step.ok, "detail": step.detail}
        DayEnd.objects.filter(pk=row.pk).update(steps=row.steps)
        yield step


def end(one: Day) -> bool:
    """Run the steps of a day that are left; return whether the day ended now."""
    steps = list(run_steps(one))
    for step in steps:
        log.log(
            20 if step.ok else 30, "EOD_STEP", market=one.market, day=one.day.isoformat(), **step.as_json()
        )
    row = _row(one)
    wrong = [name for name, step in row.steps.items() if not step["ok"]]
    if wrong and clock.now() < one.end_at + GIVE_UP:
        return False
    return _finish(row, wrong)


def _save(one: Day) -> end_of_day.Result:
    """Save the PnL: of crypto's UTC day as ended, of a session as that of its UTC day so far."""
    if one.market == Market.CRYPTO:
        return end_of_day.save(one.day)
    rows = _saved_so_far(one.closed_at.date())
    if not rows:
        return True, "no deployment has any equity yet", ""
    return True, f"PnL of {rows[0].report_date} so far {plain(usdc(rows[0].day_pnl_usd))} USD", ""


def _saved_so_far(day: date) -> list[DailySummary]:
    """Save the figures of a UTC day so far, and return them; those of a day that is over stay as they were saved."""
    if day < clock.now().date():
        rows = list(DailySummary.objects.filter(report_date=day, deployment=None))
        if rows:
            return rows
    return summary.save_summary(day)


@transaction.atomic
def _finish(row: DayEnd, wrong: list[str]) -> bool:
    """End the day and record its event, once; return whether it ended now."""
    ended = DayEnd.objects.filter(pk=row.pk, finished_at=None)
    if not ended.update(finished_at=clock.now(), ok=not wrong):
        return False
    day = row.closed_at.date() if row.market == Market.STOCKS else row.day
    rows = list(DailySummary.objects.filter(report_date=day, deployment=None))
    facts = {"market": row.market, "day": row.day.isoformat(), "ok": not wrong, "failed": wrong} | _figures(
        rows
    )
    record(EVENT, row, **facts)
    log.info("EOD_JOB_COMPLETE", **facts)
    return True
