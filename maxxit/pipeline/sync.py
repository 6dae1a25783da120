"""From `config/schedule.yaml` into beat's tables. After the first time the admin's word counts."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.pipeline.schedule import Entry, schedule

DISABLED = "schedule.disabled"
REMIND_AFTER = timedelta(days=1)
OURS = '{"origin": "config/schedule.yaml"}'
"""The header of the jobs that come from the file: those that a person added in the admin are not ours to remove."""


@transaction.atomic
def sync_schedule(*, reset: bool = False) -> dict[str, list[str]]:
    """Add the jobs that are missing, drop ours that the file no longer has; `reset` takes back the admin's changes.

    Returns the names that were added, kept, reset and removed. The reason of each job is its description.
    """
    done: dict[str, list[str]] = {"added": [], "kept": [], "reset": [], "removed": []}
    for name, entry in schedule().items():
        job = PeriodicTask.objects.filter(name=name).first()
        if job is None:
            PeriodicTask.objects.create(name=name, **_columns(entry))
            done["added"].append(name)
        elif reset:
            for column, value in _columns(entry).items():
                setattr(job, column, value)
            job.enabled = True
            job.save()
            done["reset"].append(name)
        else:
            PeriodicTask.objects.filter(pk=job.pk).update(task=entry.task, description=entry.reason)
            done["kept"].append(name)
    gone = PeriodicTask.objects.filter(headers=OURS).exclude(name__in=schedule())
    done["removed"] = list(gone.values_list("name", flat=True))
    gone.delete()
    PeriodicTasks.update_changed()
    return done


def disabled_jobs() -> list[str]:
    """The jobs of `config/schedule.yaml` that beat does not run: switched off, or deleted."""
    running = set(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True))
    return sorted(set(schedule()) - running)


@transaction.atomic
def report_disabled_jobs(*, by: str = "") -> list[str]:
    """Record `schedule.disabled`, which alerts staff, for each of them, once a day; returns the names."""
    known = Event.objects.filter(name=DISABLED, at__gt=clock.now() - REMIND_AFTER)
    told = set(known.values_list("data__job", flat=True))
    new = [name for name in disabled_jobs() if name not in told]
    for name in new:
        row = PeriodicTask.objects.filter(name=name).first() or PeriodicTask(name=name)
        record(DISABLED, row, job=name, **({"by": by} if by else {}))
    return new


def _columns(entry: Entry) -> dict[str, object]:
    """A job's columns in beat's table: one of the two rhythms, the other empty."""
    columns: dict[str, object] = {
        "task": entry.task,
        "description": entry.reason,
        "headers": OURS,
        "interval": None,
        "crontab": None,
        # A tick that nobody took within two rounds is stale: the next one is on its way.
        "expire_seconds": max(60, 2 * entry.every) if entry.every else 3600,
    }
    if entry.every is not None:
        columns["interval"], _ = IntervalSchedule.objects.get_or_create(
            every=entry.every, period=IntervalSchedule.SECONDS
        )
        return columns
    cron = entry.crontab()
    columns["crontab"], _ = CrontabSchedule.objects.get_or_create(
        minute=cron._orig_minute,
        hour=cron._orig_hour,
        day_of_week=cron._orig_day_of_week,
        day_of_month=cron._orig_day_of_month,
        month_of_year=cron._orig_month_of_year,
        timezone=settings.TIME_ZONE,
    )
    return columns
