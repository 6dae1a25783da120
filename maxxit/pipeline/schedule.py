"""`config/schedule.yaml`: the periodic jobs, each with an interval or a cron expression and the reason for it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from celery.schedules import ParseException, crontab
from pydantic import Field, RootModel, model_validator

from maxxit.core import clock
from maxxit.core.config import Policy, load

HOURS = 24


def matches(cron: crontab, moment: datetime) -> bool:
    """Return whether `moment`, in its own time zone, is a minute of the cron schedule.

    The hour that repeats when clocks go back counts once, except for schedules that run in every hour.
    """
    if moment.fold and len(cron.hour) < HOURS:
        return False
    return (
        moment.minute in cron.minute
        and moment.hour in cron.hour
        and moment.day in cron.day_of_month
        and moment.month in cron.month_of_year
        and (moment.weekday() + 1) % 7 in cron.day_of_week
    )


class Entry(Policy):
    """A periodic job."""

    task: str
    every: int | None = Field(default=None, gt=0)
    """Seconds."""
    cron: str | None = None
    """minute hour day-of-month month day-of-week, in `zone`."""
    zone: str = "UTC"
    """Time zone of `cron`, as America/New_York."""
    reason: str = Field(min_length=10)

    @model_validator(mode="after")
    def _interval_or_cron(self) -> "Entry":
        if (self.every is None) == (self.cron is None):
            raise ValueError("set exactly one of `every` (seconds) and `cron`")
        if self.cron is not None:
            self.crontab()
        if self.zone != "UTC" and self.cron is None:
            raise ValueError("`zone` goes with `cron`: an interval has no time zone")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"zone {self.zone!r} is not a time zone: give it as America/New_York") from error
        return self

    def crontab(self) -> crontab:
        """Parse the cron expression. Raises ValueError."""
        fields = (self.cron or "").split()
        if len(fields) != 5:
            raise ValueError(
                f"cron {self.cron!r} needs five fields: minute hour day-of-month month day-of-week"
            )
        minute, hour, day, month, weekday = fields
        try:
            return crontab(minute, hour, weekday, day, month)
        except ParseException as error:
            raise ValueError(f"cron {self.cron!r}: {error}") from error

    def moments(self, start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
        """Yield when the job is due in (start, end], on a clock that moves in steps of `step`."""
        if self.every is not None:
            width = max(timedelta(seconds=self.every), step)
            moment = clock.bucket(start, width) + width
            while moment <= end:
                yield moment
                moment += width
            return
        cron, zone = self.crontab(), None if self.zone == "UTC" else ZoneInfo(self.zone)
        moment = clock.bucket(start, timedelta(minutes=1)) + timedelta(minutes=1)
        while moment <= end:
            if matches(cron, moment.astimezone(zone) if zone else moment):
                yield moment
            moment += timedelta(minutes=1)


class _Schedule(RootModel[dict[str, Entry]]):
    pass


@cache
def schedule() -> dict[str, Entry]:
    """Return every job by name. Raises `Misconfigured` naming the wrong key."""
    return load("schedule", _Schedule).root
