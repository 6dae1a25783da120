"""The same pipeline over recorded days: the same bytes twice, every post accounted for, other bytes for other rules."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from maxxit.core.config import ROOT
from maxxit.events.models import Event
from signals_app.models import CtPost

DATA = ROOT.parent / "shared" / "data"
POSTS = DATA / "posts-2017-12.jsonl"

pytestmark = [pytest.mark.realdata, pytest.mark.django_db(transaction=True)]


@dataclass
class Played:
    """What one replay gave."""

    figures: dict[str, Any]
    events: bytes


@pytest.fixture
def play(worker_environ: dict[str, str], tmp_path: Path) -> Callable[..., Played]:
    """Run the command as people do."""

    def run(start: str, end: str, config: Path | None = None) -> Played:
        out = tmp_path / "events.jsonl"
        command = [
            sys.executable,
            "manage.py",
            "replay",
            "--posts",
            str(POSTS),
            "--candles",
            str(DATA),
            "--json",
        ]
        environ = worker_environ | ({"MAXXIT_CONFIG_DIR": str(config)} if config else {})
        environ["MAXXIT_PROFILE"] = ""
        done = subprocess.run(
            [*command, "--from", start, "--to", end, "--events-out", str(out)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return Played(json.loads(done.stdout), out.read_bytes())

    return run


def posts_between(start: str, end: str) -> int:
    """Posts written in [start, end)."""
    with POSTS.open() as lines:
        return sum(start <= json.loads(line)["created_at"] < end for line in lines)


def accounted(figures: dict[str, Any], posts: int) -> None:
    """Nothing vanished: posts by outcome, pairs by what became of them, money to the unit."""
    pairs = figures["pairs"]

    assert figures["posts"] == sum(figures["outcomes"].values()) == posts
    assert pairs["total"] == pairs["opened"] + pairs["blocked"] + pairs["pending"] + pairs["expired"]
    assert figures["orders"] >= pairs["opened"] + pairs["blocked"]
    assert figures["ledger_drift"] == {}
    assert (figures["books_differ"], figures["books"]["difference_usd"]) == ([], "0")
    assert figures["signals"] > 0


@pytest.mark.limit(600)
def test_a_day_twice_gives_the_same_bytes_and_leaves_no_trace_and_another_rule_gives_other_bytes(
    play: Callable[..., Played], tmp_path: Path
) -> None:
    live = (CtPost.objects.count(), Event.objects.count())
    first, second = play("2017-12-07", "2017-12-07"), play("2017-12-07", "2017-12-07")

    assert first.events == second.events
    assert first.figures == second.figures
    assert first.events.count(b"\n") == first.figures["events"] > 1000
    accounted(first.figures, posts_between("2017-12-07", "2017-12-08"))
    assert sum(first.figures["positions_closed"].values()) > 0

    # F9: a source's replay compared rows with themselves and would not have noticed
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    rules = yaml.safe_load((config / "risk.yaml").read_text())
    rules["account"]["max_orders_per_symbol_per_day"] = 1
    (config / "risk.yaml").write_text(yaml.safe_dump(rules))
    changed = play("2017-12-07", "2017-12-07", config)

    assert (CtPost.objects.count(), Event.objects.count()) == live
    with connection.cursor() as cursor:
        own = f"{connection.settings_dict['NAME']}_replay_"  # other test processes replay on the same server
        cursor.execute("SELECT count(*) FROM pg_database WHERE starts_with(datname, %s)", [own])
        assert cursor.fetchone() == (0,)
    assert changed.figures["events_sha256"] != first.figures["events_sha256"]
    accounted(changed.figures, first.figures["posts"])


@pytest.mark.slow
def test_the_whole_month_accounts_for_every_post(play: Callable[..., Played]) -> None:
    figures = play("2017-12-01", "2017-12-31").figures

    accounted(figures, 17_329)
    assert sum(figures["positions_closed"].values()) >= 50
    assert len(figures["positions_closed"]) >= 3
