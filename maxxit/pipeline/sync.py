"""From `config/schedule.yaml` into beat's tables. After the first time the admin's word counts."""

from django.conf import settings
from django.db import transaction
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks

from maxxit.pipeline.schedule import Entry, schedule

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
