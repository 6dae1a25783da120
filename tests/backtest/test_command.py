"""`manage.py backtest` on a made-up tape: tables for people, one line of JSON, exit codes."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.backtest.equal import taped
from maxxit.backtest.run import Backtest
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
    call_command("backtest", *arguments, stdout=out)
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
    assert text.strip().endswith(f"{closed} of {closed} closed positions are equal in moment, reason and PnL")
    with pytest.raises(SystemExit) as ended:
        said("check", "equal", "--tape", str(path), "--set", f"{TRAILING}=0.5")
    assert ended.value.code == 1


def test_what_is_missing_or_wrong_is_named(path: Path) -> None:
    for arguments, wrong in (
        (("check", "equal"), "missing: --posts, --candles, --from, --to"),
        (("run", "--tape", str(path), "--set", "generate.bars=9"), "generate.bars is recorded on the tape"),
        (("run", "--tape", f"{path}.no"), "cannot be read: No such file"),
        (("run", "--tape", str(path), "--set", "x"), "'x' is not KEY=VALUE"),
    ):
        with pytest.raises(CommandError, match=wrong):
            said(*arguments)
