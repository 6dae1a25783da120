"""`config/schedule.yaml`: what runs by the clock, with the reason for each interval."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache

from celery.schedules import ParseException, crontab
from pydantic import Field, RootModel, model_validator

from maxxit.core import clock
from maxxit.core.config import Policy, load

HOURS = 24


def matches(cron: crontab, moment: datetime) -> bool:
    """Whether `moment`, in the zone that it is given in, is one of the rhythm's minutes.

    An hour that comes twice, when clocks go back, counts once: but for rhythms that run in every hour.
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
    """One job."""

    task: str
    every: int | None = Field(default=None, gt=0)
    """Seconds."""
    cron: str | None = None
    """minute hour day-of-month month day-of-week, UTC."""
    reason: str = Field(min_length=10)

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Entry":
        if (self.every is None) == (self.cron is None):
            raise ValueError("give either `every` (seconds) or `cron`, not both and not neither")
        if self.cron is not None:
            self.crontab()
        return self

    def crontab(self) -> crontab:
        """The cron expression as Celery understands it. Raises ValueError when it is none."""
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
        """When the job is due in (start, end], on a clock that moves in steps of `step`."""
        if self.every is not None:
            width = max(timedelta(seconds=self.every), step)
            moment = clock.bucket(start, width) + width
            while moment <= end:
                yield moment
                moment += width
            return
        cron = self.crontab()
        moment = clock.bucket(start, timedelta(minutes=1)) + timedelta(minutes=1)
        while moment <= end:
            if matches(cron, moment):
                yield moment
            moment += timedelta(minutes=1)


class _Schedule(RootModel[dict[str, Entry]]):
    pass


@cache
def schedule() -> dict[str, Entry]:
    """Every job by name. Raises `Misconfigured` naming the wrong key."""
    return load("schedule", _Schedule).root
