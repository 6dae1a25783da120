"""Run a stage: one pass at a time, stored as StageRun, waking the next stage when it moved rows. Start runs."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import Task, current_app
from celery import chain as celery_chain
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from maxxit.core import clock, redact
from maxxit.events import wake
from maxxit.pipeline.models import PipelineRun, StageRun
from maxxit.pipeline.schedule import matches
from maxxit.pipeline.stages import STAGES, stage
from maxxit.postgres.failures import timed_out
from maxxit.postgres.sessions import alias, own_session

log = structlog.get_logger(__name__)

YEAR = 366 * 24 * 60
"""Minutes."""
LOCK_WAIT_MS = 10_000
"""How long a pass waits for another pass of its stage before it gives up."""


@dataclass(frozen=True)
class Counts:
    """The counts of a pass."""

    into: int
    """Rows that were due."""
    out: int
    """Rows that moved on."""
    detail: dict[str, Any] = field(default_factory=dict)


def run_stage(
    name: str,
    step: Callable[[], Counts],
    *,
    run_id: int | None = None,
    task: Task | None = None,
    shard: int = 0,
) -> dict[str, Any]:
    """Run `step` as a pass of stage `name`, for one shard of the accounts; return the counts as Celery's result.

    A failed pass is stored with its traceback and the error is raised again. A pass that moved rows wakes the next
    stage, unless it is part of a pipeline run, whose workflow does that.
    """
    wake.started(stage(name).task, shard)
    row = StageRun(
        run_id=run_id,
        stage=name,
        task_id=(task and task.request.id) or "",
        worker=(task and task.request.hostname) or "",
        started_at=timezone.now(),
    )
    begun = time.monotonic()
    try:
        with _stage_lock(f"{name}:{shard}" if shard else name) as acquired:
            counts = (
                step() if acquired else Counts(0, 0, {"skipped": "another pass of this stage is running"})
            )
    except Exception as error:
        row.error = redact.text(traceback.format_exc(limit=-12))
        row.duration_ms = round((time.monotonic() - begun) * 1000)
        row.save()
        _finish_run(run_id, error=redact.text(f"{name}: {error}"))
        raise
    row.duration_ms = round((time.monotonic() - begun) * 1000)
    detail = redact.strings(counts.detail)
    row.counted_in, row.counted_out, row.detail = counts.into, counts.out, detail
    _save(row)
    if run_id is not None and name == STAGES[-1].name:
        _finish_run(run_id)
    if run_id is None:
        announce(name, counts)
    log.log(
        logging.DEBUG if row.idle else logging.INFO,
        "stage_done",
        stage=name,
        ms=row.duration_ms,
        counted_in=counts.into,
        counted_out=counts.out,
    )
    return {"in": counts.into, "out": counts.out, **detail}


def announce(name: str, counts: Counts) -> None:
    """Wake the stage after `name` when this pass moved rows."""
    if counts.out:
        wake.after_commit(f"stage.{name}")


def _save(row: StageRun) -> None:
    """Store the row; of idle sweeps only the newest per stage is kept."""
    row.idle = row.run_id is None and not row.counted_in and not row.counted_out
    if not row.idle:
        row.save()
        return
    with transaction.atomic():
        StageRun.objects.filter(stage=row.stage, idle=True).delete()
        row.save()


def _finish_run(run_id: int | None, error: str = "") -> None:
    if run_id is None:
        return
    PipelineRun.objects.filter(pk=run_id, finished_at=None).update(finished_at=timezone.now(), error=error)


@contextmanager
def _stage_lock(name: str) -> Iterator[bool]:
    """Hold the stage's advisory lock; yields False when another pass still holds it after LOCK_WAIT_MS."""
    with own_session().cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [f"stage:{name}"])
        [free] = cursor.fetchone()
        try:
            if not free:
                with transaction.atomic(using=alias()):
                    cursor.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
                    cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [f"stage:{name}"])
        except OperationalError as error:
            if not timed_out(error):
                raise
            yield False
            return
        try:
            yield True
        finally:
            try:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [f"stage:{name}"])
            except OperationalError as error:
                if timed_out(error):
                    raise
                # The session has ended, and the server has released the lock with it.
                log.warning("stage_lock_lost", stage=name, error=str(error))
                own_session().close_if_unusable_or_obsolete()


def due_slot(entry: str) -> datetime:
    """Return the scheduled time that `now` belongs to, by the job's schedule as set in the admin.

    Two beats that fire for the same time get the same slot, and a slot runs once.
    """
    now = timezone.now()
    job = PeriodicTask.objects.select_related("interval", "crontab").filter(name=entry).first()
    if job is not None and job.interval is not None:
        return clock.bucket(now, timedelta(**{job.interval.period: job.interval.every}))
    minute = now.replace(second=0, microsecond=0)
    if job is None or job.crontab is None:
        return minute
    back = (minute - timedelta(minutes=n) for n in range(YEAR))
    cron, zone = job.crontab.schedule, job.crontab.timezone
    return next((moment for moment in back if matches(cron, moment.astimezone(zone))), minute)


def start_run(cause: str, *, asked_by: str = "", slot: datetime | None = None) -> PipelineRun | None:
    """Send the five stages as one Celery workflow, each on its queue; None when the slot already had its run."""
    run = PipelineRun(cause=cause, asked_by=asked_by, slot=slot, started_at=timezone.now())
    try:
        with transaction.atomic():
            run.save()
    except IntegrityError:
        return None
    signatures = [
        current_app.signature(link.task, kwargs={"run_id": run.pk}, queue=link.queue, immutable=True)
        for link in STAGES
    ]
    try:
        sent = celery_chain(*signatures).apply_async()
    except Exception:
        run.delete()
        raise
    while sent.parent is not None:
        sent = sent.parent
    run.root_task_id = sent.id
    run.save(update_fields=["root_task_id"])
    return run
