"""The campaigns with real processes: a share in `make test`, more in `make chaos`, all in `make chaos-long`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from maxxit.core.config import ROOT
from tests.templates import TEMPLATE

OURS = ("DATABASE_URL", "REDIS_URL", "MAXXIT_DATA_DIR", "MAXXIT_CONFIG_DIR", "MAXXIT_PROFILE")


Campaign = Callable[..., str]


@pytest.fixture
def campaign(migrated_template: Path) -> Campaign:
    """Call it with the name of a campaign and its options: it runs, and what it printed is returned."""

    def run(name: str, *options: str) -> str:
        """Run one in a process of its own, which forks and so may hold no thread."""
        environ = {key: value for key, value in os.environ.items() if key not in OURS}
        command = [sys.executable, "-m", f"tests.chaos.{name}", *options]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environ | {TEMPLATE: str(migrated_template)},
            capture_output=True,
            text=True,
            timeout=3000,  # a busy machine is no defect
        )
        print(done.stdout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.mark.share
def test_killed_workers_double_and_lose_nothing(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("killed", "--faults", "250", "--seed", "11")


def test_killed_workers_double_and_lose_nothing_in_more_faults(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("killed", "--faults", "1200", "--seed", "12")


@pytest.mark.parametrize("venue", ["alpaca", "coinbase", "hyperliquid"])
def test_killed_workers_double_and_lose_nothing_at_a_venue_like(campaign: Campaign, venue: str) -> None:
    assert "violations: 0" in campaign("killed", "--faults", "250", "--seed", "13", "--like", venue)


@pytest.mark.share
def test_nothing_leaves_past_a_gate_that_was_shut(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("flips", "--flips", "20", "--seed", "11")


def test_nothing_leaves_past_a_gate_that_was_shut_often(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("flips", "--flips", "100", "--seed", "12")


def test_the_whole_stack_under_fire_doubles_and_loses_nothing(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("shots", "--kills", "10", "--seed", "12")


@pytest.mark.share
def test_two_beats_with_wrong_clocks_run_a_slot_once(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("beats", "--nights", "2", "--seed", "11")


def test_two_beats_with_wrong_clocks_run_a_slot_once_in_many_nights(campaign: Campaign) -> None:
    assert "violations: 0" in campaign("beats", "--nights", "8", "--seed", "12")


@pytest.mark.share
def test_workers_killed_while_they_send_notifications_lose_none(campaign: Campaign) -> None:
    assert "lost=0, not_sent=0" in campaign("notify_kills", "--kills", "4", "--seed", "3")
