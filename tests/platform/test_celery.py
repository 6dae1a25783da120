"""Celery as we run it: a real worker process, a real Redis, and what happens when they break."""

import json
import os
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery
from celery.exceptions import QueueNotFound
from django.conf import settings

from maxxit.celery import app, canary
from maxxit.core import correlation
from maxxit.embedded.processes import wait_until
from maxxit.embedded.servers import Redis
from maxxit.env import BASE_DIR
from maxxit.pipeline.stages import QUEUES, STAGES
from tests.servers import Worker
from tests.tree import PACKAGES


class Bench:
    """A Redis of its own to kill, a worker on it, and counters in the Redis of the test run."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.redis = Redis(folder)
        self.redis.start()
        self.counters = redis.Redis.from_url(settings.ENV.broker)
        environ = environ | {"REDIS_URL": self.redis.url, "COUNTERS_URL": settings.ENV.broker}
        self.worker = Worker(environ, folder / "log", "default", "bench@localhost", "tests.platform.tasks")
        self.worker.start()

    def send(self, seconds: float) -> str:
        """Send one slow task; returns its name once it has started."""
        name = uuid.uuid4().hex
        with Celery("sender", broker=self.redis.url) as sender:
            sender.send_task("tests.slow", [name, seconds], queue="default")
        assert wait_until(lambda: self.count(name, "started") == 1, 10)
        return name

    def count(self, name: str, what: str) -> int:
        return int(self.counters.get(f"{name}:{what}") or 0)


@pytest.fixture
def bench(folder: Path, worker_environ: dict[str, str]) -> Iterator[Bench]:
    made = Bench(folder, worker_environ)
    yield made
    made.worker.kill()
    made.redis.stop()


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_serves_every_queue(celery_worker_process: Worker, queue: str) -> None:
    answer = canary.apply_async(queue=queue).get(timeout=10)

    assert answer == {"worker": "tests@localhost", "queue": queue}


@pytest.mark.usefixtures("celery_worker_process")
def test_forged_messages_do_nothing_and_the_worker_lives() -> None:
    forged = json.dumps({"body": "bm8=", "headers": {}, "properties": {"body_encoding": "base64"}})
    with redis.Redis.from_url(settings.ENV.broker) as client:
        client.lpush("default", forged)
    app.send_task("os.system", ["true"], queue="default")

    assert canary.apply_async(queue="default").get(timeout=10)["queue"] == "default"


def test_nothing_is_sent_with_a_countdown_or_an_eta() -> None:
    """A message that waits longer than the visibility timeout would be delivered twice: due times are rows."""
    code = [path for one in PACKAGES for path in (BASE_DIR / one).rglob("*.py")]
    assert len(code) > 200
    assert [path for path in code if re.search(r"\b(countdown|eta)=", path.read_text())] == []


def test_an_unknown_queue_is_refused_where_it_is_named() -> None:
    with pytest.raises(QueueNotFound):
        canary.apply_async(queue="no_such_queue")


def test_every_stage_is_routed_to_its_queue() -> None:
    routed = {stage.task: app.amqp.router.route({}, stage.task)["queue"].name for stage in STAGES}

    assert routed == {stage.task: stage.queue for stage in STAGES}


def test_the_time_limits_leave_no_room_for_a_second_delivery() -> None:
    visibility = settings.VISIBILITY_TIMEOUT

    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] == visibility
    assert settings.CELERY_TASK_SOFT_TIME_LIMIT < settings.CELERY_TASK_TIME_LIMIT < visibility / 2


def test_the_correlation_id_travels_with_the_message_and_no_further(bench: Bench) -> None:
    derived = correlation.derive_id("tests", "travels")
    with Celery("sender", broker=bench.redis.url, backend=bench.redis.url) as sender:
        with correlation.under(derived):
            carried = sender.send_task("tests.which_correlation", queue="default").get(timeout=10)
        without = sender.send_task("tests.which_correlation", queue="default").get(timeout=10)

    assert (carried, without) == (str(derived), "None")


def test_a_redis_restart_under_a_running_task_loses_neither_task_nor_worker(bench: Bench) -> None:
    name = bench.send(2.0)
    assert bench.redis.process is not None
    bench.redis.process.kill()
    bench.redis.process.wait()
    bench.redis.start()

    assert wait_until(lambda: bench.count(name, "ended") >= 1, 20)
    assert bench.count(bench.send(0), "started") == 1
    assert bench.worker.alive


def test_a_killed_pool_child_has_its_task_delivered_again(bench: Bench) -> None:
    name = bench.send(2.0)
    assert bench.worker.process is not None
    for child in psutil.Process(bench.worker.process.pid).children():
        child.kill()

    assert wait_until(lambda: bench.count(name, "ended") == 1, 20)
    assert bench.count(name, "started") == 2


def test_sigterm_hands_a_long_task_back_to_the_next_worker(bench: Bench) -> None:
    name = bench.send(3.5)
    bench.worker.stop()
    assert bench.count(name, "ended") == 0
    bench.worker.start()

    assert wait_until(lambda: bench.count(name, "ended") == 1, 20)


def test_pool_children_end_with_a_killed_worker(bench: Bench) -> None:
    name = bench.send(3.0)
    assert bench.worker.process is not None
    children = psutil.Process(bench.worker.process.pid).children()
    os.kill(bench.worker.process.pid, signal.SIGKILL)

    assert children
    assert wait_until(lambda: not any(_lives(child) for child in children), 5)
    assert bench.count(name, "ended") == 0


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_redis_reads_its_version_from_the_disk_once() -> None:
    redis.Connection()  # type: ignore[no-untyped-call]
    before = redis.utils.get_lib_version.cache_info()  # type: ignore[attr-defined]
    redis.Connection()  # type: ignore[no-untyped-call]
    after = redis.utils.get_lib_version.cache_info()  # type: ignore[attr-defined]
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)
