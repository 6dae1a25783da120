"""Concurrency limit of a provider over all workers, by numbered Postgres advisory locks.

A lock belongs to its database session, so the slot of a killed worker is released at once; a counter would stay too
high.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from django.db import OperationalError, transaction

from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.llm import fallback
from maxxit.llm.errors import SlotsTaken
from maxxit.llm.models import LlmCircuit
from maxxit.llm.policy import policy, recordings
from maxxit.postgres.failures import timed_out
from maxxit.postgres.sessions import alias, own_session

POLL_SECONDS = 0.1
QUEUE = -1
"""Number of the lock that the next in the queue for a slot holds; the others wait for it in the order of arrival."""


def width(purpose: str) -> int:
    """Return how many calls of `purpose` can be in flight: the slots of the first provider that may be called now.

    1 where answers come from this process (a local provider, recordings) or no provider can be called.
    """
    if recordings().mode == "replay":
        return 1
    try:
        candidates = fallback.candidates(policy(), purpose)
    except Misconfigured:
        return 1  # the call says which setting is missing
    if candidates[0].stanza.local:
        return 1
    paused = set(LlmCircuit.objects.filter(retry_at__gt=clock.now()).values_list("provider", flat=True))
    for candidate in candidates:
        if candidate.provider.name not in paused:
            return 1 if candidate.stanza.local else candidate.stanza.concurrency
    return 1


@contextmanager
def slot(provider: str, count: int, wait_seconds: float) -> Iterator[int]:
    """Hold one of the `count` slots of `provider`. Raises `SlotsTaken` when none is free within `wait_seconds`.

    Calls wait in the order of arrival, over all workers: one that takes slot after slot delays no other.
    """
    family = crc32(f"llm:{provider}".encode()) - 2**31
    number = _take(family, count, time.monotonic() + wait_seconds)
    if number is None:
        raise SlotsTaken(f"all {count} slots of {provider} are taken", after=wait_seconds)
    try:
        yield number
    finally:
        _unlock(family, number)


def _take(family: int, count: int, end: float) -> int | None:
    """Wait for this call's turn, then for a free slot; return its number, None when the time is over."""
    if not _wait_for_turn(family, end):
        return None
    try:
        while True:
            with own_session().cursor() as cursor:
                for number in range(count):
                    cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [family, number])
                    if cursor.fetchone()[0]:
                        return number
            if time.monotonic() >= end:
                return None
            time.sleep(POLL_SECONDS)
    finally:
        _unlock(family, QUEUE)


def _wait_for_turn(family: int, end: float) -> bool:
    """Wait until `end` to be the next that takes a slot; return False when others were before it all the time."""
    milliseconds = round(max(POLL_SECONDS, end - time.monotonic()) * 1000)
    try:
        with transaction.atomic(using=alias()), own_session().cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [family, QUEUE])
    except OperationalError as error:
        if not timed_out(error):
            raise
        return False
    return True


def _unlock(family: int, number: int) -> None:
    with own_session().cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [family, number])
