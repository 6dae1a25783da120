"""Read the status that the leading stream process publishes, for `doctor`, the pages and the fallback polling task."""

import json
from typing import Any

import redis
from django.conf import settings

STATUS = "maxxit:stream:status"
STATUS_SECONDS = 15
"""Time to live of the status: older means that the process has ended."""


def open_bus(url: str = "") -> redis.Redis:
    """Return a connection to Redis with a timeout of five seconds."""
    return redis.Redis.from_url(
        url or settings.ENV.broker,
        socket_timeout=5,
        socket_connect_timeout=2,
        protocol=2,
        health_check_interval=0,
    )


def status() -> dict[str, Any] | None:
    """Return counters and sources of the leading stream; None without one, or when Redis does not answer."""
    try:
        with open_bus() as bus:
            said = bus.get(STATUS)
    except redis.RedisError:
        return None
    return json.loads(said) if isinstance(said, bytes) else None
