"""What the leading stream process says about itself; for `doctor`, the pages, and the task that polls without it."""

import json
from typing import Any

import redis
from django.conf import settings

STATUS = "maxxit:stream:status"
STATUS_SECONDS = 15
"""A status older than this has no process behind it any more."""


def open_bus(url: str = "") -> redis.Redis:
    """A connection to Redis that answers within five seconds or fails."""
    return redis.Redis.from_url(
        url or settings.ENV.broker,
        socket_timeout=5,
        socket_connect_timeout=2,
        protocol=2,
        health_check_interval=0,
    )


def status() -> dict[str, Any] | None:
    """Counters and sources of the stream that leads; None when none does, or Redis does not answer."""
    try:
        with open_bus() as bus:
            said = bus.get(STATUS)
    except redis.RedisError:
        return None
    return json.loads(said) if isinstance(said, bytes) else None
