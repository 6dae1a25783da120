"""Job status: last run, next run and delay of every scheduled job and pipeline stage."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatch
from typing import Any

from django.conf import settings
from django.db.models import Max
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from maxxit.core.clock import iso_utc
from maxxit.pipeline.models import CanaryMark, PipelineRun, StageRun
from maxxit.pipeline.stages import STAGES, SWEEPS

BEAT_WRITES = timedelta(minutes=3)
"""Beat saves when it sent a job with up to this delay; a job without a record of its own seems older by as much."""


@dataclass(frozen=True)
class Job:
    """One entry of the schedule, or a stage that runs only within a pipeline run."""

    name: str
    task: str
    rhythm: str
    enabled: bool
    last_run: datetime | None
    next_run: datetime | None
    lag_seconds: float
    """Seconds past its due time; 0 when it is on time."""
    took_ms: int | None
    result: str
    """Counts of the last pass, or the last line of its error."""
    worker: str
    queue: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Times in UTC."""
        values = dict(self.__dict__)
        for name in ("last_run", "next_run"):
            values[name] = iso_utc(values[name]) if values[name] else None
        return values


def queue_of(task: str) -> str:
    """Return the queue that a task's messages are routed to."""
    routes: dict[str, dict[str, str]] = settings.CELERY_TASK_ROUTES
    if task in routes:
        return routes[task]["queue"]
    matching = (to["queue"] for pattern, to in routes.items() if fnmatch(task, pattern))
    return next(matching, settings.CELERY_TASK_DEFAULT_QUEUE)


def jobs() -> list[Job]:
    """List every scheduled job and every stage, by name."""
    passes = {row.stage: row for row in StageRun.objects.order_by("stage", "-started_at").distinct("stage")}
    by_task = {stage.task: passes.get(stage.name) for stage in SWEEPS}
    recorded = {
        "maxxit.pipeline.tasks.run_pipeline": PipelineRun.objects.aggregate(at=Max("started_at"))["at"],
        "maxxit.pipeline.tasks.canary": CanaryMark.objects.aggregate(at=Max("signed_at"))["at"],
    }
    workers = dict(CanaryMark.objects.values_list("queue", "worker"))
    known = PeriodicTask.objects.select_related("interval", "crontab").exclude(name__startswith="celery.")
    listed = [_job(row, by_task.get(row.task), recorded.get(row.task), workers) for row in known]
    scheduled = {job.task for job in listed}
    for stage in STAGES:
        if stage.task not in scheduled:
            listed.append(_unscheduled(stage.name, stage.task, stage.what, passes.get(stage.name), workers))
    return sorted(listed, key=lambda job: job.name)


def _job(row: PeriodicTask, done: StageRun | None, recorded: datetime | None, workers: dict[str, str]) -> Job:
    now, queue = timezone.now(), queue_of(row.task)
    own = done.started_at if done else recorded
    last = max((at for at in (own, row.last_run_at) if at), default=None)
    rhythm = row.schedule
    due = _second(now + rhythm.remaining_estimate(last or row.date_changed)) if row.enabled else None
    grace = timedelta(0) if own else BEAT_WRITES
    late = max((now - due - grace).total_seconds(), 0.0) if due else 0.0
    return Job(
        name=row.name,
        task=row.task,
        rhythm=str(row.interval or f"cron {_cron(row)} {row.crontab.timezone}"),
        enabled=row.enabled,
        last_run=last,
        next_run=max(due, now) if due and not late else due,
        lag_seconds=round(late, 1),
        took_ms=done.duration_ms if done else None,
        result=_result(done),
        worker=(done.worker if done else "") or workers.get(queue, ""),
        queue=queue,
        reason=row.description,
    )


def _second(at: datetime) -> datetime:
    """Round to the nearest second: Celery counts from a `now` that is slightly later than ours."""
    return (at + timedelta(milliseconds=500)).replace(microsecond=0)


def _cron(row: PeriodicTask) -> str:
    cron = row.crontab
    return f"{cron.minute} {cron.hour} {cron.day_of_month} {cron.month_of_year} {cron.day_of_week}"


def _unscheduled(name: str, task: str, what: str, done: StageRun | None, workers: dict[str, str]) -> Job:
    queue = queue_of(task)
    return Job(
        name=name,
        task=task,
        rhythm="in each pipeline run",
        enabled=True,
        last_run=done.started_at if done else None,
        next_run=None,
        lag_seconds=0.0,
        took_ms=done.duration_ms if done else None,
        result=_result(done),
        worker=(done.worker if done else "") or workers.get(queue, ""),
        queue=queue,
        reason=what,
    )


def _result(done: StageRun | None) -> str:
    if done is None:
        return ""
    if done.error:
        return done.error.strip().splitlines()[-1][:120]
    return f"{done.counted_in} in, {done.counted_out} out"
