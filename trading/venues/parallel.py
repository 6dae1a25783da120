"""Run network requests of many accounts at once, in threads."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from maxxit.postgres import threads
from trading.passes import ends_the_pass

AT_ONCE = 8
"""Threads. Alpaca takes 200 requests a minute of one account, Coinbase 30 a second."""
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def in_parallel(jobs: Mapping[K, Callable[[], T]]) -> dict[K, T | Exception]:
    """Return key -> what each job returned or raised. What ends the whole pass is raised, and the rest not started.

    Each call has threads of its own. A database connection that a job opens ends with it.
    """
    if len(jobs) < 2:
        return {key: result_of(job) for key, job in jobs.items()}
    pool = ThreadPoolExecutor(min(AT_ONCE, len(jobs)), "venue")
    try:
        futures = {key: threads.submit(pool, partial(result_of, job)) for key, job in jobs.items()}
        return {key: future.result() for key, future in futures.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def with_helpers(jobs: Mapping[K, Callable[[], T]], helpers: threads.Pool) -> dict[K, T | Exception]:
    """Do the same in the caller's thread and in those of `helpers` that are free, which all callers share.

    For jobs that use the database: however many threads call it, no more connections are open than they and `helpers`
    have threads.
    """
    waiting, results = deque(jobs.items()), dict[K, T | Exception]()

    def work() -> None:
        try:
            while waiting:
                key, job = waiting.popleft()
                results[key] = result_of(job)
        except IndexError:  # another thread took the last
            return
        except BaseException:
            waiting.clear()
            raise

    helping = [helpers.submit(work) for _ in range(min(helpers.size, len(jobs) - 1))]
    work()
    for one in helping:
        if not one.cancel():
            one.result()
    return {key: results[key] for key in jobs}


def result_of(job: Callable[[], T]) -> T | Exception:
    """Return what a job returned or raised. What ends the whole pass is raised."""
    try:
        return job()
    except Exception as error:
        if ends_the_pass(error):
            raise
        return error
