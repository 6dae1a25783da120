"""What people start by hand: a stage, or the whole chain. Each start is an event that names who asked."""

from celery import current_app

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.pipeline.models import PipelineRun
from maxxit.pipeline.runs import start_run
from maxxit.pipeline.stages import stage


def stage_now(name: str, *, by: str) -> str:
    """Send one pass of stage `name` to its queue; returns Celery's task id.

    Raises KeyError for an unknown stage and Retryable when the broker does not take it.
    """
    one = stage(name)
    try:
        task_id: str = current_app.send_task(one.task, queue=one.queue, retry=False, ignore_result=True).id
    except Exception as error:  # kombu's errors have no common base beyond this
        raise Retryable(
            f"the broker did not take the task (is Redis up? see `manage.py doctor`): {error}"
        ) from error
    told = {"by": by, "task_id": task_id}
    Event.objects.create(at=clock.now(), name="stage.asked", subject=f"pipeline.stage/{name}", data=told)
    return task_id


def chain_now(cause: str, *, by: str) -> PipelineRun:
    """Start the whole chain, `cause` as in `PipelineRun.CAUSES`. Raises Retryable when the broker is away."""
    try:
        run = start_run(cause, asked_by=by)
    except Exception as error:
        raise Retryable(
            f"the broker did not take the chain (is Redis up? see `manage.py doctor`): {error}"
        ) from error
    if run is None:
        raise Retryable("this slot of the schedule had its run already: ask again")
    record("pipeline.asked", run, by=by, cause=cause)
    return run
