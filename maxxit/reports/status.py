"""When each job last ran, when it is due, and how late it is."""

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
"""Beat writes down when it sent a job at most this much later; jobs that leave no trace of their own look older."""


@dataclass(frozen=True)
class Job:
    """One line of the schedule, or a stage that only the chain runs."""

    name: str
    task: str
    rhythm: str
    enabled: bool
    last_run: datetime | None
    next_run: datetime | None
    lag_seconds: float
    """How far past its moment it is; 0 when it is on time."""
    took_ms: int | None
    result: str
    """What the last pass did, or the last line of its error."""
    worker: str
    queue: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Times in UTC."""
        told = dict(self.__dict__)
        for name in ("last_run", "next_run"):
            told[name] = iso_utc(told[name]) if told[name] else None
        return told


def queue_of(task: str) -> str:
    """The queue that a task's messages go to."""
    routes: dict[str, dict[str, str]] = settings.CELERY_TASK_ROUTES
    if task in routes:
        return routes[task]["queue"]
    matching = (to["queue"] for pattern, to in routes.items() if fnmatch(task, pattern))
    return next(matching, settings.CELERY_TASK_DEFAULT_QUEUE)


def jobs() -> list[Job]:
    """Every job of the schedule, and every stage, by name."""
    passes = {row.stage: row for row in StageRun.objects.order_by("stage", "-started_at").distinct("stage")}
    by_task = {stage.task: passes.get(stage.name) for stage in SWEEPS}
    traces = {
        "maxxit.pipeline.tasks.run_pipeline": PipelineRun.objects.aggregate(at=Max("started_at"))["at"],
        "maxxit.pipeline.tasks.canary": CanaryMark.objects.aggregate(at=Max("signed_at"))["at"],
    }
    workers = dict(CanaryMark.objects.values_list("queue", "worker"))
    known = PeriodicTask.objects.select_related("interval", "crontab").exclude(name__startswith="celery.")
    found = [_job(row, by_task.get(row.task), traces.get(row.task), workers) for row in known]
    scheduled = {job.task for job in found}
    for stage in STAGES:
        if stage.task not in scheduled:
            found.append(_by_chain(stage.name, stage.task, stage.what, passes.get(stage.name), workers))
    return sorted(found, key=lambda job: job.name)


def _job(row: PeriodicTask, done: StageRun | None, trace: datetime | None, workers: dict[str, str]) -> Job:
    now, queue = timezone.now(), queue_of(row.task)
    own = done.started_at if done else trace
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
    """The nearest whole second: Celery counts from a `now` of its own, a little later than ours."""
    return (at + timedelta(milliseconds=500)).replace(microsecond=0)


def _cron(row: PeriodicTask) -> str:
    one = row.crontab
    return f"{one.minute} {one.hour} {one.day_of_month} {one.month_of_year} {one.day_of_week}"


def _by_chain(name: str, task: str, what: str, done: StageRun | None, workers: dict[str, str]) -> Job:
    queue = queue_of(task)
    return Job(
        name=name,
        task=task,
        rhythm="with the chain",
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
