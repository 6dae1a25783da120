"""`manage.py backtest check equal`: the fast path closes what the replay closed, and says where a rule differs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maxxit.core.config import ROOT

DATA = ROOT.parent / "shared" / "data"
POSTS = DATA / "posts-2017-12.jsonl"

pytestmark = [pytest.mark.realdata, pytest.mark.django_db(transaction=True)]


def call(environ: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environ | {"MAXXIT_PROFILE": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def tape_of(environ: dict[str, str], start: str, end: str, path: Path) -> dict[str, Any]:
    done = call(
        environ, "replay", "--json", "--posts", str(POSTS), "--candles", str(DATA), "--from", start, "--to",
        end, "--tape", str(path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@pytest.mark.limit(600)
def test_a_day_is_equal_and_a_changed_rule_is_named(worker_environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "day.tape"
    figures = tape_of(worker_environ, "2017-12-07", "2017-12-07", path)
    closed = sum(figures["positions_closed"].values())

    same = call(worker_environ, "backtest", "check", "equal", "--tape", str(path))
    assert same.returncode == 0, same.stdout + same.stderr
    last = same.stdout.strip().splitlines()[-1]
    assert last == f"{closed} of {closed} closed positions are equal in moment, reason, PnL and profit share"
    assert closed >= 10

    other = call(
        worker_environ, "backtest", "check", "equal", "--tape", str(path), "--set", "exits.signal.trailing_pct=2"
    )  # fmt: skip
    assert other.returncode == 1, other.stderr
    assert "first difference: paper:" in other.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_every_position_of_december_2017_is_equal(worker_environ: dict[str, str]) -> None:
    done = call(
        worker_environ, "backtest", "check", "equal", "--json", "--posts", str(POSTS), "--candles", str(DATA),
        "--from", "2017-12-01", "--to", "2017-12-31",
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["equal"] == result["replayed"] == result["backtested"] >= 250
