"""Runs that the command stores: listed, shown, compared, plotted, deleted; and what it says without a database."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from maxxit.backtest import runs
from maxxit.backtest.models import BacktestRun, StoredTape
from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.replay import tape as tapes
from maxxit.reports import backtest_policy as policy
from tests.backtest.tapes import small_tape

TRAILING = "exits.signal.trailing_pct"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tape with the hash of an input; the tests' own profile stays."""
    monkeypatch.setattr("maxxit.backtest.management.commands.backtest.use_profile", lambda name: None)
    tapes.write(small_tape(inputs={"posts.jsonl": "ab" * 32}), tmp_path / "small.tape")
    return tmp_path / "small.tape"


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("backtest", *arguments, stdout=out)
    return out.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


@pytest.mark.django_db
def test_a_run_is_stored_with_all_that_made_it(path: Path) -> None:
    result = told(
        "run", "--tape", str(path), "--set", f"{TRAILING}=2", "--trades", "--note", "wider", "--by", "olga"
    )

    shown = told("show", str(result["run"]))

    assert shown["inputs"] == {"posts.jsonl": "ab" * 32}
    assert (shown["kind"], shown["changes"], shown["seed"]) == ("run", {TRAILING: "2"}, 1)
    assert (shown["note"], shown["by"], shown["error"]) == ("wider", "olga", "")
    assert shown["tape"] == result["tape"] == tapes.read(path).digest
    assert len(shown["commit"]) >= 40
    assert shown["details"]["trades"] == result["trades"]
    assert shown["details"]["monte_carlo"] == result["monte_carlo"]
    assert {name: shown["figures"][name] for name in result["figures"]} == result["figures"]
    equity = shown["details"]["equity"]
    assert len(equity) == 5
    assert all(isinstance(value, int) for row in equity for value in row)
    change = Decimal(equity[-1][1] - equity[0][1]) / 1_000_000
    assert Decimal(result["figures"]["net"]) == change == BacktestRun.objects.get().net
    for rows in shown["details"]["parts"].values():
        nets = [Decimal(row["pnl"]) - Decimal(row["profit_share"]) for row in result["trades"]]
        assert sum(Decimal(row["net"]) for row in rows) == sum(nets)
        assert sum(row["closed"] for row in rows) == len(nets)
    text = said("show", str(result["run"]), "--trades")
    assert "of olga" in text
    assert "profit factor" not in text  # nested figures are for pages and programs
    assert "Monte Carlo, fills worse by 0 to 30 bps" in text


@pytest.mark.django_db
def test_bars_are_those_of_the_tapes_quotes(path: Path) -> None:
    told("run", "--tape", str(path))

    stored = runs.bars_of(StoredTape.objects.get().pk)

    tape = tapes.read(path)
    assert stored["seconds"] == 300
    assert len(stored["bars"]["ETH"]) == len(tape.quotes["ETH"]) <= 1_500
    assert [row[4] for row in stored["bars"]["ETH"]] == [row[1] for row in tape.quotes["ETH"]]


@pytest.mark.django_db
def test_the_list_is_filtered_and_read_in_pages(path: Path) -> None:
    ids = [told("run", "--tape", str(path), "--set", f"{TRAILING}={n}")["run"] for n in ("1", "2")]
    swept = told(
        "sweep", "--tape", str(path), "--vary", f"{TRAILING}=0.5,1", "--processes", "1", "--note", "both"
    )

    assert [one["id"] for one in told("list")["runs"]] == [swept["run"], *reversed(ids)]
    assert [one["id"] for one in told("list", "--kind", "sweep")["runs"]] == [swept["run"]]
    assert [one["id"] for one in told("list", "--text", f'{TRAILING}": "2"')["runs"]] == [ids[1]]
    assert [one["id"] for one in told("list", "--text", "BOTH")["runs"]] == [swept["run"]]
    assert told("list", "--tape", "00ff")["runs"] == []
    first = told("list", "--limit", "2")
    assert [one["id"] for one in told("list", "--before", str(first["next_before"]))["runs"]] == [ids[0]]
    text = said("list", "--limit", "2")
    assert f"more: --before {ids[1]}" in text
    assert "both" in text
    assert StoredTape.objects.count() == 1
    assert "manage.py backtest run --tape FILE" in said("list", "--kind", "optimise")


@pytest.mark.django_db
def test_two_runs_are_compared_by_settings_figures_and_trades(path: Path) -> None:
    one, same, other = (
        str(told("run", "--tape", str(path), "--set", f"{TRAILING}={value}")["run"])
        for value in ("1", "1", "0.2")
    )

    equal, differs = told("compare", one, same), told("compare", one, other)

    assert (equal["settings"], equal["first_difference"], equal["differing"]) == ([], "", [])
    assert differs["settings"] == [{"key": TRAILING, "first": "1", "second": "0.2"}]
    assert f": run {one} closed" in differs["first_difference"]
    closed = [differs[side]["figures"]["closed"] for side in ("first", "second")]
    for side, total in zip(("only_first", "only_second"), closed, strict=True):
        assert differs["equal"] + len(differs["differing"]) + len(differs[side]) == total
    text = said("compare", one, other)
    assert "first difference:" in text
    assert TRAILING in text
    swept = told("sweep", "--tape", str(path), "--vary", f"{TRAILING}=0.5,1", "--processes", "1")["run"]
    with pytest.raises(CommandError, match=f"run {swept} is a sweep, which has no trades"):
        said("compare", one, str(swept))
    with pytest.raises(CommandError, match="no stored run 999"):
        said("compare", one, "999")


def element_text(root: ET.Element) -> str:
    """The title of an SVG, which its file shows as a line of text as well."""
    title = str(root[1].text)
    assert root[-1].text == title
    return title


@pytest.mark.django_db
def test_plots_are_whole_files(path: Path, tmp_path: Path) -> None:
    words = ("--processes", "1", "--vary", f"{TRAILING}=0.5..2..0.5")
    both = (*words, "--vary", "generate.spot.stop_loss_pct=3,5")
    days = ("--train-days", "1", "--test-days", "1", "--embargo-days", "0")
    one = told("run", "--tape", str(path))["run"]
    other = told("run", "--tape", str(path), "--set", f"{TRAILING}=0.2")["run"]
    drawn = {
        "run": [one], "both": [one, other], "map": [told("sweep", "--tape", str(path), *both)["run"]],
        "bars": [told("optimise", "--tape", str(path), "--tries", "4", *words)["run"]],
        "windows": [told("walk-forward", "--tape", str(path), *words, *days)["run"]],
    }  # fmt: skip
    shapes = {}
    for name, ids in drawn.items():
        for kind in ("svg", "html"):
            told("plot", *map(str, ids), "--out", str(tmp_path / f"{name}.{kind}"))
        root = ET.fromstring((tmp_path / f"{name}.svg").read_text())
        tags = [element.tag.rpartition("}")[2] for element in root.iter()]
        shapes[name] = {tag: tags.count(tag) for tag in ("polyline", "rect")}
        page = (tmp_path / f"{name}.html").read_text()
        assert "<script" not in page
        assert f"<figcaption>{element_text(root)}</figcaption>" in page
    assert (shapes["run"]["polyline"], shapes["both"]["polyline"]) == (1, 2)
    assert shapes["map"]["rect"] == 8
    assert shapes["bars"]["rect"] in (3, 4)
    assert shapes["windows"]["rect"] == 6
    for out, wrong in (
        (("--out", "a.png"), "ends with .svg or .html"),
        (("--out", str(tmp_path / "no" / "a.svg")), "cannot be written"),
    ):
        with pytest.raises(CommandError, match=wrong):
            said("plot", str(one), *out)
    with pytest.raises(CommandError, match="x was not varied"):
        said("plot", str(drawn["map"][0]), "--across", "x", "--out", str(tmp_path / "a.svg"))


@pytest.mark.django_db
def test_what_is_refused_is_stored_with_its_error(path: Path) -> None:
    with pytest.raises(CommandError, match=r"generate\.bars is recorded"):
        said("run", "--tape", str(path), "--set", "generate.bars=9")

    [row] = told("list")["runs"]
    assert row["error"].startswith("generate.bars is recorded")
    assert "refused" in said("list")
    with pytest.raises(CommandError, match="has nothing to plot"):
        said("plot", str(row["id"]), "--out", "a.svg")
    with pytest.raises(CommandError, match="has no result"):
        said("compare", str(row["id"]), str(row["id"]))


@pytest.mark.django_db
def test_runs_are_deleted_by_number_by_age_and_by_retention(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [told("run", "--tape", str(path))["run"] for _ in range(4)]
    rules = policy.policy()
    BacktestRun.objects.filter(pk=ids[0]).update(started_at=clock.now() - timedelta(days=rules.keep_days + 1))
    BacktestRun.objects.filter(pk=ids[1]).update(started_at=clock.now() - timedelta(days=8))

    last = told("run", "--tape", str(path))["run"]  # deletes what is too old
    assert [one["id"] for one in told("list")["runs"]] == [last, *reversed(ids[1:])]
    assert told("delete", "--older-than-days", "7", "--yes") == {"deleted": 1}
    monkeypatch.setattr(runs, "policy", lambda: rules.model_copy(update={"keep_runs": 2}))
    newest = told("run", "--tape", str(path))["run"]
    assert [one["id"] for one in told("list")["runs"]] == [newest, last]
    monkeypatch.setattr("builtins.input", lambda: "n")
    with pytest.raises(CommandError, match="nothing was deleted"):
        said("delete", str(last))
    with pytest.raises(CommandError, match="give numbers"):
        said("delete", "--yes")
    assert told("delete", str(last), str(newest), "--yes") == {"deleted": 2}
    assert not StoredTape.objects.exists()


def test_without_a_database_a_run_is_shown_and_not_stored(path: Path) -> None:
    nowhere = os.environ | {"DATABASE_URL": "postgres://a:b@127.0.0.1:1/none", "MAXXIT_PROFILE": ""}
    command = [sys.executable, "manage.py", "backtest", "run", "--tape", str(path), "--profile", ""]

    done = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "max drawdown" in done.stdout
    assert "not stored: " in done.stdout
    assert "--no-save does not try" in done.stdout


@pytest.mark.django_db
def test_a_run_that_must_be_stored_and_cannot_be_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("Postgres is not running: start it (no socket)")

    monkeypatch.setattr(BacktestRun.objects, "create", gone)

    assert told("run", "--tape", str(path))["run"] is None
    with pytest.raises(CommandError, match=r"the run is not stored: Postgres is not running: start it$"):
        said("run", "--tape", str(path), "--save")
