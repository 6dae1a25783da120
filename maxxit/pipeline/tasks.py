"""Celery's side of the machine itself: the scheduled chain, proof of life, tidying up."""

from datetime import timedelta

from celery import current_app, shared_task
from django.utils import timezone

from maxxit.llm import export, trace
from maxxit.pipeline.models import CanaryMark, PipelineRun, StageRun
from maxxit.pipeline.runs import due_slot, start_run
from maxxit.pipeline.stages import QUEUES
from maxxit.pipeline.sync import report_disabled_jobs

KEEP_RUNS = timedelta(days=30)
"""How long runs and passes are kept."""


@shared_task
def run_pipeline() -> int | None:
    """Start the whole chain for the present slot of the schedule; None when the slot had its run."""
    started = start_run("schedule", slot=due_slot("pipeline"))
    return started.pk if started else None


@shared_task
def canary() -> None:
    """Send a mark to each queue: whoever works there signs it (`sign`). Report jobs that are switched off."""
    report_disabled_jobs()
    for queue in QUEUES:
        current_app.send_task(
            "maxxit.pipeline.tasks.sign", args=[queue], queue=queue, expires=60, ignore_result=True
        )


@shared_task(bind=True)
def sign(self: object, queue: str) -> None:
    """This worker serves `queue`, now."""
    CanaryMark.objects.update_or_create(
        queue=queue,
        defaults={"signed_at": timezone.now(), "worker": self.request.hostname},  # type: ignore[attr-defined]
    )


@shared_task
def export_traces() -> dict[str, int]:
    """Hand new traces to the configured exporters; returns how many went where."""
    return export.export_traces()


@shared_task
def tidy() -> int:
    """Drop runs, passes and traces past their time; returns how many rows went."""
    before = timezone.now() - KEEP_RUNS
    runs, _ = PipelineRun.objects.filter(started_at__lt=before).delete()
    passes, _ = StageRun.objects.filter(started_at__lt=before).delete()
    return runs + passes + trace.tidy()
