"""A time limit for every test, as a pytest plugin (`-p tests.time_limit`).

A test that runs longer than its limit fails with the stacks of all threads, and the run goes on with the next test.
Setup, call and teardown count together; fixtures of a wider scope (the database, the local chain) have a limit of
their own. `@pytest.mark.limit(seconds)` changes the limit of a test.

The limit is a timer of the operating system (SIGALRM), which interrupts the main thread: child processes do not
inherit it, and a frozen clock does not stop it.
"""

import faulthandler
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

DEFAULT_SECONDS = 120.0
CAMPAIGN_SECONDS = 3600.0
"""For tests marked `slow` or `chaos`, which measure or count for minutes."""
WIDE_SECONDS = 300.0
"""For the setup of one fixture of module, package or session scope."""
CLEANUP_SECONDS = 30.0
"""For what the test does after its limit has passed: its own `finally` blocks, then the teardown."""
RUNNERS = ("_pytest", "pluggy", "xdist", "execnet")
WIDE = ("module", "package", "session")


class TimeLimitExceeded(BaseException):
    """Raised in a test's own code. Not an Exception, so that neither the test nor Hypothesis handles it."""


class Watch:
    """The limit of the test that runs in this process."""

    def __init__(self) -> None:
        self.test, self.phase, self.seconds = "", "", 0.0

    def start(self, test: str, seconds: float) -> None:
        """Start the timer for one test."""
        self.test, self.phase, self.seconds = test, "", seconds
        signal.signal(signal.SIGALRM, self.expire)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def stop(self) -> None:
        """Stop the timer."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def expire(self, number: int, frame: FrameType | None) -> None:
        """Fail the test from inside its code; between two phases, wait for the next one."""
        if not self.phase:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        signal.setitimer(signal.ITIMER_REAL, CLEANUP_SECONDS)
        message = f"{self.test} ran longer than {self.seconds:g} s (in its {self.phase})\n{stacks()}"
        if self.phase == "call":
            raise TimeLimitExceeded(message)
        pytest.fail(message, pytrace=False)  # pytest finishes the other fixtures after its own failures only

    @contextmanager
    def shared(self, fixture: str) -> Iterator[None]:
        """Stop the test's own limit while `fixture` is set up, under the limit for shared fixtures."""
        test, seconds = self.test, self.seconds
        left, _ = signal.setitimer(signal.ITIMER_REAL, WIDE_SECONDS)
        self.test, self.seconds = f"{fixture}, first used by {test.rpartition(' by ')[2]},", WIDE_SECONDS
        try:
            yield
        finally:
            self.test, self.seconds = test, seconds
            signal.setitimer(signal.ITIMER_REAL, left or CLEANUP_SECONDS)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Mark the code that may be interrupted."""
        self.phase = phase
        try:
            yield
        finally:
            self.phase = ""


WATCH = Watch()


def stacks() -> str:
    """The stacks of all threads, as faulthandler prints them, without the frames of pytest."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return "".join(line for line in file if not any(f"/{package}/" in line for package in RUNNERS))


def limit_of(item: pytest.Item) -> float:
    """The limit of a test in seconds."""
    if marker := item.get_closest_marker("limit"):
        return float(marker.args[0])
    return CAMPAIGN_SECONDS if {"slow", "chaos"} & set(item.keywords) else DEFAULT_SECONDS


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", f"limit(seconds): fail after so long ({DEFAULT_SECONDS:g} s without it)"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run the test under its limit."""
    WATCH.start(item.nodeid, limit_of(item))
    try:
        return (yield)
    finally:
        WATCH.stop()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Allow the timer to interrupt the setup."""
    with WATCH.during("setup"):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Iterator[None]:
    """Allow the timer to interrupt the test."""
    with WATCH.during("call"):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Allow the timer to interrupt the teardown."""
    with WATCH.during("teardown"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """Give a fixture that many tests share a limit of its own, and the test what was left of its limit."""
    if fixturedef.scope not in WIDE:
        return (yield)
    with WATCH.shared(f"the {fixturedef.scope} fixture {fixturedef.argname}"):
        return (yield)
