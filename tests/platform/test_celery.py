"""Celery as we run it: a real worker process, a real Redis, and what happens when they break."""

import json
import subprocess
import uuid

import pytest
from celery.exceptions import QueueNotFound
from django.conf import settings

from maxxit.celery import app, canary
from maxxit.pipeline.stages import QUEUES
from tests.servers import Worker


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_serves_every_queue(celery_worker_process: Worker, queue: str) -> None:
    answer = canary.apply_async(queue=queue).get(timeout=10)

    assert answer == {"worker": "tests@localhost", "queue": queue}
