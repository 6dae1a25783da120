"""Run network requests of many accounts at once, in threads that use no database."""

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from trading.passes import ENDS_THE_PASS

AT_ONCE = 8
"""Threads. Alpaca takes 200 requests a minute of one account."""
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def in_parallel(jobs: Mapping[K, Callable[[], T]]) -> dict[K, T | Exception]:
    """Return key -> what each job returned or raised. What ends the whole pass is raised, and the rest not started."""
    if len(jobs) < 2:
        return {key: _result(job) for key, job in jobs.items()}
    pool = ThreadPoolExecutor(min(AT_ONCE, len(jobs)), "alpaca")
    try:
        futures = {key: pool.submit(copy_context().run, _result, job) for key, job in jobs.items()}
        return {key: future.result() for key, future in futures.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(job: Callable[[], T]) -> T | Exception:
    try:
        return job()
    except ENDS_THE_PASS:
        raise
    except Exception as error:
        return error
