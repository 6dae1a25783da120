"""Two beats at once, whose clocks jump, over nights on which the clocks are changed: a scheduled slot runs once.

    python -m tests.chaos.beats --nights 40 --seed 1

Each night two of the real schedulers (django_celery_beat's) work on one database around a change of the clocks in
some zone. Their clocks, and the one of the worker that takes their messages, are wrong by up to an hour and jump; a
beat is killed and started again; a message is delivered twice or late. What they fire goes into the product's own
task. A slot is a moment of the wall clock in the zone of the job: an hour that comes twice in autumn has it once.
"""

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

from tests.chaos.world import Dice, Tally, world

NIGHTS = (
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("UTC", datetime(2026, 12, 31, 23, 59, tzinfo=UTC)),
)
"""Zone, and when its clocks change."""
RHYTHMS = ("30 1 * * *", "0 2 * * *", "0 */6 * * *", "15 0 * * *", "*/30 * * * *", "0 * * * *")
AROUND = timedelta(hours=7)
STEP = timedelta(minutes=24)
WRONG = timedelta(hours=1)


class Sent:
    """What stands in for the chain: the pass itself is not the point here."""

    id, parent = "root", None


def beat(messages: list[str]) -> Any:
    """A scheduler as `celery beat` runs it, but for the broker."""
    from django_celery_beat.schedulers import DatabaseScheduler

    from maxxit.celery import app

    class Beat(DatabaseScheduler):
        producer = None

        def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
            if advance:
                self.reserve(entry)
            messages.append(entry.task)

    return Beat(app=app, lazy=False)


def night(dice: Dice, zone: str, change: datetime, rhythm: str, tally: Tally) -> None:
    """One night of two beats."""
    import time_machine
    from django_celery_beat.models import CrontabSchedule, PeriodicTask

    from maxxit.pipeline.models import PipelineRun

    begin = change - AROUND
    PipelineRun.objects.all().delete()
    PeriodicTask.objects.all().delete()
    with time_machine.travel(begin, tick=False):
        minute, hour, day, month, weekday = rhythm.split()
        line = CrontabSchedule.objects.create(
            minute=minute,
            hour=hour,
            day_of_month=day,
            month_of_year=month,
            day_of_week=weekday,
            timezone=zone,
        )
        PeriodicTask.objects.create(
            name="pipeline", task="maxxit.pipeline.tasks.run_pipeline", crontab=line, last_run_at=begin
        )
    messages: list[str] = []
    wrong = [timedelta(0)] * 3  # of the beats, and of the worker
    now = begin
    beats: list[Any] = [None, None]
    while now < change + AROUND:
        now += STEP * dice.random()
        for place in range(3):
            if dice.random() < 0.05:
                wrong[place] = dice.choice((timedelta(0), WRONG * (2 * dice.random() - 1)))
                tally.count("a clock jumped")
        for place in range(2):
            if beats[place] is None or dice.random() < 0.03:
                with time_machine.travel(now + wrong[place], tick=False):
                    beats[place] = beat(messages)
                tally.count("a beat was killed and started")
            with time_machine.travel(now + wrong[place], tick=False):
                beats[place].tick()
        if messages:
            with time_machine.travel(now + wrong[2], tick=False):
                deliver(messages, dice, tally)
    judge(zone, rhythm, tally)


def deliver(messages: list[str], dice: Dice, tally: Tally) -> None:
    """What the beats sent reaches a worker: late, or twice, or as it should."""
    from maxxit.pipeline.tasks import run_pipeline

    if dice.random() < 0.1:
        tally.count("messages came late")
        return
    for _ in range(len(messages)):
        if dice.random() < 0.1:
            messages.append("again")
            tally.count("a message came twice")
    for _ in messages:
        run_pipeline()
    messages.clear()


def judge(zone: str, rhythm: str, tally: Tally) -> None:
    """Each slot ran once, and each was one of the rhythm's."""
    from maxxit.pipeline.models import PipelineRun

    slots = [slot for slot in PipelineRun.objects.values_list("slot", flat=True) if slot]
    tally.figures["runs"] = tally.figures.get("runs", 0) + len(slots)
    each_hour = rhythm.split()[1] == "*"
    walls = Counter(
        slot.isoformat() if each_hour else slot.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat()
        for slot in slots
    )
    doubles = {wall: times for wall, times in walls.items() if times > 1}
    if doubles:
        tally.violations.append(f"{rhythm} in {zone}: {doubles}")
    if not slots:
        tally.violations.append(f"{rhythm} in {zone} never ran")


def campaign(nights: int, seed: int) -> Tally:
    """So many nights in a database of their own."""
    dice, tally = Dice(seed), Tally("two beats", seed)
    with world(), mock.patch("celery.canvas._chain.apply_async", return_value=Sent()):
        for number in range(nights):
            zone, change = NIGHTS[number % len(NIGHTS)]
            night(dice, zone, change, dice.choice(RHYTHMS), tally)
    tally.figures["nights"] = nights
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return campaign(given.nights, given.seed).tell()


if __name__ == "__main__":
    sys.exit(main())
