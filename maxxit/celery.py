"""The Celery application. Start a worker: `REMAP_SIGTERM=SIGQUIT celery -A maxxit.celery worker -Q execute`.

The variable must be set before the program starts: with it, SIGTERM means "finish within the soft shutdown timeout,
or hand the task back"; without it, a worker waits for its running tasks without limit.
"""

import os
import signal
from contextlib import AbstractContextManager
from functools import cache
from typing import Any
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")

import redis.utils
from celery import Celery, Task, signals
from celery.exceptions import TaskPredicate
from django.conf import settings
from django_structlog.celery.steps import DjangoStructLogInitStep
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from maxxit.core import correlation, logs, redact
from maxxit.embedded.processes import die_with_parent

HEADER = "maxxit_correlation_id"


class Channel(kombu_redis.Channel):
    """Works around kombu 5.7.0, which ends the worker when Redis restarts under a running task.

    The task acknowledges on its old channel, which has lost its connection; the resulting AttributeError is not a
    connection error, so the worker exits instead of reconnecting. This class raises one. The message is delivered
    again, which every task tolerates.
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("this channel was closed when its connection to Redis was lost")
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        return parameters


kombu_redis.Transport.Channel = Channel
# redis would read the metadata of its package from the disk for every connection that it makes
redis.utils.get_lib_version = cache(redis.utils.get_lib_version)


class RedactingTask(Task):
    """Task whose result and error are redacted before they reach Redis, Flower and the log."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; within a worker through `run`, so that Celery's request is not pushed twice."""
        run = super().__call__ if self.request.called_directly else self.run
        try:
            return redact.strings(run(*args, **kwargs))
        except TaskPredicate:  # Retry, Ignore and Reject are answers, not errors
            raise
        except Exception as error:
            shown = redact.failure(error)
            if shown is error:
                raise
            raise shown from shown.__cause__  # also hides the original


app = Celery("maxxit", task_cls=RedactingTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.steps["worker"].add(DjangoStructLogInitStep)
app.autodiscover_tasks()


@app.task(name="maxxit.canary", bind=True, ignore_result=False, acks_late=False, expires=60)
def canary(self: Task) -> dict[str, object]:
    """Return the worker's name and the queue, which proves that the queue is served."""
    return {"worker": self.request.hostname, "queue": self.request.delivery_info["routing_key"]}


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    logs.apply(settings.LOGGING)


@signals.worker_init.connect
def _fingerprint_release(**_: Any) -> None:
    """Compute the release fingerprint at start, before a file can change under the running worker."""
    from maxxit.pipeline import release

    release.mine()


@signals.worker_process_init.connect
def _kill_with_worker(**_: Any) -> None:
    """Kill pool children with their worker: otherwise one finishes a task that another worker receives again."""
    die_with_parent(signal.SIGKILL)


@signals.before_task_publish.connect
def _send_correlation(headers: dict[str, Any], **_: Any) -> None:
    if (current := correlation.current()) is not None:
        headers.setdefault(HEADER, str(current))


_open: dict[str, AbstractContextManager[None]] = {}
"""Task id -> the context in which its correlation id is set."""


@signals.task_prerun.connect
def _set_correlation(task_id: str, task: Task, **_: Any) -> None:
    value = getattr(task.request, HEADER, None) or (task.request.headers or {}).get(HEADER)
    if value:
        _open[task_id] = correlation.under(UUID(value))
        _open[task_id].__enter__()


@signals.task_postrun.connect
def _reset_correlation(task_id: str, **_: Any) -> None:
    if (block := _open.pop(task_id, None)) is not None:
        block.__exit__(None, None, None)
