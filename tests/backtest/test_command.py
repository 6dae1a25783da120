"""`manage.py backtest` on a made-up tape: tables for people, one line of JSON, exit codes."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.backtest.run import Backtest
from maxxit.backtest.trades import taped
from maxxit.replay import tape as tapes
from tests.backtest.tapes import small_tape

TRAILING = "exits.signal.trailing_pct"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tape with the positions that its replay closed; the tests' own profile stays."""
    monkeypatch.setattr("maxxit.backtest.management.commands.backtest.use_profile", lambda name: None)
    tape = small_tape()
    outcome = Backtest(tape).run()
    tape.closed = [taped(one) for one in outcome.traded.closed]
    tape.open = len(outcome.traded.open)
    tapes.write(tape, tmp_path / "small.tape")
    return tmp_path / "small.tape"


def said(*arguments: str) -> str:
    out = StringIO()
    stores = arguments[0] in ("run", "sweep", "optimise", "walk-forward")
    call_command("backtest", *arguments, *(["--no-save"] if stores else []), stdout=out)
    return out.getvalue()


def told(*arguments: str) -> Any:
    text = said(*arguments, "--json")
    assert text.count("\n") <= 1
    return json.loads(text)


def test_run_shows_figures_and_trades(path: Path) -> None:
    result = told("run", "--tape", str(path), "--set", f"{TRAILING}=2", "--trades")
    text = said("run", "--tape", str(path), "--trades")

    assert result["changes"] == {TRAILING: "2"}
    assert result["figures"]["closed"] == len(result["trades"]) > 0
    assert "These settings were chosen after the prices were known." in result["notes"]
    assert "max drawdown" in text
    assert "paper:follower" in text
    assert "fewer than 180 say little" in text


def test_compare_names_the_first_difference(path: Path) -> None:
    result = told("compare", "--tape", str(path), "--with", f"{TRAILING}=0.5")

    assert result["first"]["changes"] == {}
    assert ": first closed" in result["first_difference"]
    assert "first difference:" in said("compare", "--tape", str(path), "--with", f"{TRAILING}=0.5")
    assert told("compare", "--tape", str(path))["first_difference"] == ""


def test_check_equal_ends_with_0_or_1_and_says_which(path: Path) -> None:
    closed = len(tapes.read(path).closed)

    text = said("check", "equal", "--tape", str(path))
    assert text.strip().endswith(
        f"{closed} of {closed} closed positions are equal in moment, reason, PnL and profit share"
    )
    with pytest.raises(SystemExit) as ended:
        said("check", "equal", "--tape", str(path), "--set", f"{TRAILING}=0.5")
    assert ended.value.code == 1


def test_check_equal_fails_where_nothing_was_compared(path: Path) -> None:
    tape = tapes.read(path)
    tape.calls, tape.closed, tape.open = [], [], 0
    tapes.write(tape, path)
    out = StringIO()

    with pytest.raises(SystemExit) as ended:
        call_command("backtest", "check", "equal", "--tape", str(path), stdout=out)

    assert ended.value.code == 1
    assert "nothing was compared" in out.getvalue()


def test_sweep_shows_the_best_and_what_luck_would_reach(path: Path) -> None:
    words = ("sweep", "--tape", str(path), "--vary", f"{TRAILING}=0.5,1,2,none", "--processes", "1")

    result = told(*words)

    assert (result["tried"], sum(result["refused"].values())) == (3, 1)
    assert result["best"][0]["figures"]["closed"] > 0
    assert (result["best_of_luck"], result["deflated_sharpe"]) == (None, None)
    assert "3 settings tried on 4 days: with fewer than 30 the best cannot be told from luck" in said(*words)

    tapes.write(small_tape(days=30), path)
    longer = told(*words)
    assert longer["best_of_luck"] > 0
    assert 0 <= longer["deflated_sharpe"] <= 1
    assert "3 settings tried on 30 days: the best has a Sharpe ratio of" in longer["verdict"]


def test_walk_forward_shows_each_window(path: Path) -> None:
    words = ("walk-forward", "--tape", str(path), "--vary", f"{TRAILING}=0.5,1,2", "--processes", "1")
    days = ("--train-days", "2", "--test-days", "1", "--embargo-days", "0")

    result = told(*words, *days)

    assert (len(result["windows"]), result["test_days"]) == (2, 2)
    assert "3 settings; the tests together: return" in said(*words, *days)


def test_optimise_tries_no_more_than_it_may_and_says_what_luck_would_reach(path: Path) -> None:
    words = (
        "optimise",
        "--tape",
        str(path),
        "--vary",
        f"{TRAILING}=0.5..3..0.5",
        "--tries",
        "4",
        "--processes",
        "1",
    )

    result = told(*words)

    assert 3 <= result["tried"] <= 4
    assert "settings tried on 4 days" in said(*words)


def test_a_placebo_says_where_the_real_result_stands(path: Path) -> None:
    result = told("check", "placebo", "--tape", str(path), "--shifts", "3")

    assert len(result["shifted"]) == 3
    assert "the real result is above" in said("check", "placebo", "--tape", str(path), "--shifts", "3")


def test_what_is_missing_or_wrong_is_named(path: Path) -> None:
    for arguments, wrong in (
        (("check", "equal"), "missing: --posts, --candles, --from, --to"),
        (("run", "--tape", str(path), "--set", "generate.bars=9"), "generate.bars is recorded on the tape"),
        (("check", "lookahead", "--tape", str(path)), "check lookahead needs --candles"),
        (("sweep", "--tape", str(path), "--vary", f"{TRAILING}=1..2"), "is not FIRST..LAST..STEP"),
        (("run", "--tape", f"{path}.no"), "cannot be read: No such file"),
        (("run", "--tape", str(path), "--set", "x"), "'x' is not KEY=VALUE"),
        (("compare",), "give two numbers of"),
        (("compare", "1"), "compare takes two numbers"),
        (("run", "--tape", str(path), "--note", "x" * 201), "it has 201 characters; 200 are allowed"),
    ):
        with pytest.raises(CommandError, match=wrong):
            said(*arguments)
