"""Workers killed at every step of sending, and a bad network: a short share of `python -m tests.chain.crashes`."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.chain, pytest.mark.django_db]


def test_a_killed_worker_and_a_bad_network_make_exactly_one_swap_and_planted_bugs_are_found() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chain.crashes", "--runs", "12", "--seconds", "20", "--variants", "25"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = "\n".join(line for line in ran.stdout.splitlines() if not line.startswith("20"))
    print(told)
    assert ran.returncode == 0, told + ran.stderr[-2000:]
    assert "missed: none" in told
