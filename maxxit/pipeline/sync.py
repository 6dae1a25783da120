"""Copy the jobs of `config/schedule.yaml` into celery-beat's tables; changes made in the admin are kept."""

from datetime import timedelta

from django.db import transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.pipeline.schedule import Entry, schedule

DISABLED = "schedule.disabled"
REMIND_AFTER = timedelta(days=1)
OURS = '{"origin": "config/schedule.yaml"}'
"""Header that marks jobs from the file: jobs added in the admin are not removed."""


@transaction.atomic
def sync_schedule(*, reset: bool = False) -> dict[str, list[str]]:
    """Add missing jobs and remove those that are no longer in the file; `reset` undoes changes made in the admin.

    Returns the names of the jobs that were added, kept, reset and removed.
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
    """Return the jobs of `config/schedule.yaml` that beat does not run: disabled or deleted."""
    running = set(PeriodicTask.objects.filter(enabled=True).values_list("name", flat=True))
    return sorted(set(schedule()) - running)


@transaction.atomic
def report_disabled_jobs(*, by: str = "") -> list[str]:
    """Record `schedule.disabled`, which alerts staff, for each disabled job once a day; return the names."""
    known = Event.objects.filter(name=DISABLED, at__gt=clock.now() - REMIND_AFTER)
    reported = set(known.values_list("data__job", flat=True))
    new = [name for name in disabled_jobs() if name not in reported]
    for name in new:
        row = PeriodicTask.objects.filter(name=name).first() or PeriodicTask(name=name)
        record(DISABLED, row, job=name, **({"by": by} if by else {}))
    return new


def _columns(entry: Entry) -> dict[str, object]:
    """Return a job's columns in beat's table, with either an interval or a crontab."""
    columns: dict[str, object] = {
        "task": entry.task,
        "description": entry.reason,
        "headers": OURS,
        "interval": None,
        "crontab": None,
        # A message that no worker took within two intervals is stale: the next one follows.
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
        timezone=entry.zone,
    )
    return columns
