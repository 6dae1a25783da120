"""Threads that keep their database connections."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from django.db import connection

from maxxit.postgres import threads

SECONDS = 30


@pytest.fixture
def pool() -> Iterator[threads.Pool]:
    """One thread."""
    with closing(threads.Pool(1, "test")) as pool:
        yield pool


def backend() -> int:
    """Return the server process of this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    return int(pid)


def has_ended(pid: int, seconds: float) -> bool:
    """Return whether a server process ends within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", [pid])
            [ended] = cursor.fetchone()
        if ended or time.monotonic() >= end:
            return bool(ended)
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
def test_a_thread_keeps_its_connection(pool: threads.Pool) -> None:
    first = pool.submit(backend).result(SECONDS)

    assert pool.submit(backend).result(SECONDS) == first != backend()


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_is_made_anew(pool: threads.Pool) -> None:
    first = pool.submit(backend).result(SECONDS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [first])

    assert pool.submit(backend).result(SECONDS) != first


@pytest.mark.django_db(transaction=True)
def test_a_closed_pool_leaves_no_connection() -> None:
    with closing(threads.Pool(1, "test")) as pool:
        pid = pool.submit(backend).result(SECONDS)
        assert not has_ended(pid, 0)

    assert has_ended(pid, SECONDS)
