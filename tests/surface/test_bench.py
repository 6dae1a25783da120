"""`manage.py bench sweep`: it measures the product's own sweep, hits what it says, and leaves the live tables alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from maxxit.core.errors import Rejected
from maxxit.ops import sweep_bench
from positions.models import Position

pytestmark = pytest.mark.django_db(transaction=True)

Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(worker_environ: dict[str, str]) -> Bench:
    """The command in a process of its own, as people call it."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "bench", "sweep", *words],
            env=os.environ | worker_environ,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_hits_are_exact_and_the_live_tables_untouched(bench: Bench) -> None:
    before = Position.objects.count()
    done = bench("--positions", "80", "--symbols", "4", "--hits", "7", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["positions"], told["symbols"], told["hits"], told["rounds"]) == (80, 4, 7, 1)
    assert min(told["sweep_ms"], told["floor_ms"], told["loop_ms"]) > 0
    assert Position.objects.count() == before


def test_a_given_vector_hits_what_lies_beyond_it(bench: Bench, tmp_path: Path) -> None:
    """At 50 every stop of the ten longs of S0 is passed, and nothing of S1 at its entry price."""
    prices = tmp_path / "prices.json"
    prices.write_text('["50", 100]')
    done = bench(
        "--positions", "40", "--symbols", "2", "--prices", str(prices), "--rounds", "1", "--json", "--no-loop"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["hits"] == 10
    assert told["loop_ms"] is None

    prices.write_text("[100]")
    short = bench("--positions", "40", "--symbols", "2", "--prices", str(prices))
    assert short.returncode == 1
    assert "1 prices for 2 symbols" in short.stderr

    prices.write_text('["NaN", 1]')
    bad = bench("--positions", "40", "--symbols", "2", "--prices", str(prices))
    assert bad.returncode == 1
    assert "every price must be a positive number" in bad.stderr


def test_the_longs_of_a_symbol_are_those_of_the_table() -> None:
    for count, symbols in ((8, 2), (80, 4), (41, 3), (5, 5)):
        world = sweep_bench.World(count, symbols)
        rows = [(i % symbols, i // symbols % 2) for i in range(1, count + 1)]
        assert [world.longs(number) for number in range(symbols)] == [
            rows.count((number, 0)) for number in range(symbols)
        ]
        world.check(hits=min(world.longs(number) for number in range(symbols)) * symbols)
        with pytest.raises(Rejected, match="raise --positions"):
            world.check(hits=count + 1)


def test_more_hits_than_stops_are_refused(bench: Bench) -> None:
    done = bench("--positions", "8", "--symbols", "2", "--hits", "8")
    assert done.returncode == 1
    assert "raise --positions or lower --hits" in done.stderr
