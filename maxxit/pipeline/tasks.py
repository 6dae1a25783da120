"""Celery tasks of the pipeline itself: scheduled runs, worker heartbeats, trace export and retention."""

from datetime import timedelta

from celery import current_app, shared_task
from django.utils import timezone

from maxxit.llm import export, trace
from maxxit.pipeline.models import CanaryMark, PipelineRun, StageRun
from maxxit.pipeline.runs import due_slot, start_run
from maxxit.pipeline.stages import QUEUES
from maxxit.pipeline.sync import report_disabled_jobs

KEEP_RUNS = timedelta(days=30)
"""Retention of pipeline and stage runs."""


@shared_task
def run_pipeline() -> int | None:
    """Start a pipeline run for the current slot of the schedule; None when the slot had its run."""
    started = start_run("schedule", slot=due_slot("pipeline"))
    return started.pk if started else None


@shared_task
def canary() -> None:
    """Send a heartbeat task (`sign`) to each queue, and report disabled jobs."""
    report_disabled_jobs()
    for queue in QUEUES:
        current_app.send_task(
            "maxxit.pipeline.tasks.sign", args=[queue], queue=queue, expires=60, ignore_result=True
        )


@shared_task(bind=True)
def sign(self: object, queue: str) -> None:
    """Store that this worker serves `queue` now."""
    CanaryMark.objects.update_or_create(
        queue=queue,
        defaults={"signed_at": timezone.now(), "worker": self.request.hostname},  # type: ignore[attr-defined]
    )


@shared_task
def export_traces() -> dict[str, int]:
    """Send new traces to the configured exporters; return how many each accepted."""
    return export.export_traces()


@shared_task
def tidy() -> int:
    """Delete runs, passes and traces past their retention; return how many rows."""
    before = timezone.now() - KEEP_RUNS
    runs, _ = PipelineRun.objects.filter(started_at__lt=before).delete()
    passes, _ = StageRun.objects.filter(started_at__lt=before).delete()
    return runs + passes + trace.tidy()
