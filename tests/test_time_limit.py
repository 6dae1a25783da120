"""The time limit of a test, shown by a pytest of its own on a file of hanging tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxxit.core.config import ROOT

HANGING = """
import threading
import time

import pytest
from hypothesis import given, strategies

WAITS = threading.Lock()
WAITS.acquire()


@pytest.fixture
def slow_to_start():
    time.sleep(60)


@pytest.fixture
def slow_to_stop():
    yield
    time.sleep(60)


@pytest.mark.limit(1)
def test_hangs():
    WAITS.acquire()


@pytest.mark.limit(1)
def test_hangs_and_handles_errors():
    try:
        WAITS.acquire()
    except Exception:
        pass


@pytest.mark.limit(1)
@given(strategies.integers())
def test_hangs_in_hypothesis(number):
    time.sleep(60)


@pytest.mark.limit(1)
def test_hangs_in_setup(slow_to_start):
    pass


@pytest.mark.limit(1)
def test_hangs_in_teardown(slow_to_stop):
    pass


def test_next():
    pass
"""


@pytest.mark.parametrize("options", [["-p", "no:xdist"], ["-n", "1"]], ids=["one process", "xdist"])
def test_a_hanging_test_fails_and_the_next_one_runs(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p tests.time_limit\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:django", "-rA", *options]
    run = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert "3 failed, 2 passed, 2 errors" in run.stdout, run.stdout + run.stderr
    for test, phase in (
        ("hangs", "call"),
        ("hangs_and_handles_errors", "call"),
        ("hangs_in_hypothesis", "call"),
        ("hangs_in_setup", "setup"),
        ("hangs_in_teardown", "teardown"),
    ):
        assert f"test_hanging.py::test_{test} ran longer than 1 s (in its {phase})" in run.stdout
    assert "most recent call first" in run.stdout  # the stacks
    assert "PASSED test_hanging.py::test_next" in run.stdout
