"""Concurrency limit of a provider over all workers, by numbered Postgres advisory locks.

A lock belongs to its database session, so the slot of a killed worker is released at once; a counter would stay too
high.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from django.db import connection

from maxxit.core.errors import Retryable

POLL_SECONDS = 0.1


@contextmanager
def slot(provider: str, count: int, wait_seconds: float) -> Iterator[int]:
    """Hold one of the `count` slots of `provider`. Raises `Retryable` when none is free within `wait_seconds`."""
    family = crc32(f"llm:{provider}".encode()) - 2**31
    number = _take(family, count, wait_seconds)
    if number is None:
        raise Retryable(f"all {count} slots of {provider} are taken", after=wait_seconds)
    try:
        yield number
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [family, number])


def _take(family: int, count: int, wait_seconds: float) -> int | None:
    end = time.monotonic() + wait_seconds
    while True:
        with connection.cursor() as cursor:
            for number in range(count):
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [family, number])
                if cursor.fetchone()[0]:
                    return number
        if time.monotonic() >= end:
            return None
        time.sleep(POLL_SECONDS)
