"""Start a stage or a whole pipeline run on request (command, API, admin), recording who asked."""

from celery import current_app

from maxxit.core import clock
from maxxit.core.errors import Retryable
from maxxit.events.models import Event
from maxxit.events.record import record
from maxxit.pipeline.models import PipelineRun
from maxxit.pipeline.runs import start_run
from maxxit.pipeline.stages import stage


def start_stage(name: str, *, by: str) -> str:
    """Send one pass of stage `name` to its queue; return Celery's task id.

    Raises KeyError for an unknown stage, Retryable when the broker is down.
    """
    requested = stage(name)
    try:
        task_id: str = current_app.send_task(
            requested.task, queue=requested.queue, retry=False, ignore_result=True
        ).id
    except Exception as error:  # kombu's errors have no common base class
        raise Retryable(
            f"the broker did not accept the task (is Redis up? see `manage.py doctor`): {error}"
        ) from error
    data = {"by": by, "task_id": task_id}
    Event.objects.create(at=clock.now(), name="stage.asked", subject=f"pipeline.stage/{name}", data=data)
    return task_id


def start_pipeline(cause: str, *, by: str) -> PipelineRun:
    """Start a pipeline run, `cause` as in `PipelineRun.CAUSES`. Raises Retryable when the broker is down."""
    try:
        run = start_run(cause, asked_by=by)
    except Exception as error:
        raise Retryable(
            f"the broker did not accept the pipeline run (is Redis up? see `manage.py doctor`): {error}"
        ) from error
    if run is None:
        raise Retryable("this slot of the schedule has had its run already: try again")
    record("pipeline.asked", run, by=by, cause=cause)
    return run
