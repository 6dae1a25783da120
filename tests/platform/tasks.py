"""Tasks that only the platform's tests run, in a worker of their own."""

import os
import time

from redis import Redis

from maxxit.celery import app
from maxxit.core import correlation


@app.task(name="tests.slow")
def slow(name: str, seconds: float) -> None:
    """Count a start, take a while, count an end."""
    with Redis.from_url(os.environ["COUNTERS_URL"]) as counters:
        counters.incr(f"{name}:started")
        time.sleep(seconds)
        counters.incr(f"{name}:ended")


@app.task(name="tests.which_correlation", ignore_result=False)
def which_correlation() -> str:
    """The correlation id under which this task runs."""
    return str(correlation.current())
