"""Store what a command computed: the run, its result or error, and of its tape what the pages show."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import OperationalError, ProgrammingError, transaction

from maxxit.backtest import runs
from maxxit.backtest.figures import Figures, trade_row
from maxxit.backtest.market import moment_of
from maxxit.backtest.models import BacktestRun, Kind, StoredTape
from maxxit.backtest.report import bars_of, equity_rows, parts_of, report_of
from maxxit.backtest.run import Backtest, Outcome
from maxxit.backtest.sweep import Sweep, Tried, WalkForward
from maxxit.core import clock
from maxxit.core.config import ROOT
from maxxit.pipeline import release
from maxxit.reports.backtest_policy import policy
from positions.performance.returns import Curve

SHOWN = ("closed", "net", "twr", "max_drawdown", "sharpe", "win_rate")
"""Figures that are kept of each setting of a sweep."""


@dataclass(frozen=True)
class Asked:
    """What a command was asked to run."""

    kind: Kind
    changes: Mapping[str, str]
    by: str
    started_at: datetime
    varied: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What is stored of it."""

    figures: Mapping[str, Any]
    details: Mapping[str, Any]
    net: Decimal | None = None


def result_of_run(outcome: Outcome, curve: Curve, figures: Figures, drawn: Mapping[str, Any]) -> Result:
    """Return the result of a single run. `drawn`: its Monte Carlo tests."""
    closed, most = outcome.traded.closed, policy().keep_trades
    details = {
        "equity": equity_rows(curve),
        "trades": [trade_row(one) for one in closed[:most]],
        "trades_left_out": max(len(closed) - most, 0),
        "parts": parts_of(closed),
        "monte_carlo": drawn,
    }
    return Result(report_of(outcome, figures, curve), details, figures.net)


def result_of_sweep(done: Sweep) -> Result:
    """Return the result of a sweep or an optimisation; the figures are those of the best setting."""
    most = policy().keep_settings
    best = done.tried[0].figures if done.tried else None
    details = {
        "tried": [{"changes": dict(one.changes), **_shown(one)} for one in done.tried[:most]],
        "tried_left_out": max(len(done.tried) - most, 0),
        "refused": done.refused,
    }
    figures = {
        **(best.as_json() if best else {}),
        "tried": len(done.tried),
        "best": dict(done.tried[0].changes) if done.tried else {},
        "tried_days": done.days,
        "best_of_luck": done.luck,
        "deflated_sharpe": done.deflated,
        "verdict": done.verdict(),
    }
    return Result(figures, details, best.net if best else None)


def _shown(one: Tried) -> dict[str, Any]:
    values = one.figures.as_json()
    return {name: values[name] for name in SHOWN}


def result_of_walk_forward(found: WalkForward) -> Result:
    """Return the result of a walk-forward: the figures are those of the tests together."""
    windows = [
        {
            "train_from": one.train_from.isoformat(),
            "test_from": one.test_from.isoformat(),
            "test_to": one.test_to.isoformat(),
            "changes": dict(one.changes),
            "train_return": one.train_return,
            "train_sharpe": one.train_sharpe,
            "test_return": one.test_return,
        }
        for one in found.windows
    ]
    figures = {
        "tried": found.tried,
        "twr": found.test_return,
        "sharpe": found.test_sharpe,
        "days": len(found.out_of_sample),
    }
    return Result(figures, {"windows": windows, "test_returns": [float(one) for one in found.out_of_sample]})


class NotStored(Exception):
    """No database answers, or it has no table of runs."""


def store(backtest: Backtest, asked: Asked, result: Result | None, error: str = "") -> BacktestRun:
    """Store a run with its result, or with the error that it ended with. Old runs are deleted. Raises NotStored."""
    values: dict[str, Any] = {
        "kind": asked.kind.value, "changes": dict(asked.changes), "varied": dict(asked.varied),
        "options": dict(asked.options), "seed": asked.seed, "note": asked.note, "by": asked.by,
        "started_at": asked.started_at, "finished_at": clock.now(), "commit": commit(), "release": release.mine(),
        "error": error,
    }  # fmt: skip
    if result is not None:
        values |= {"figures": result.figures, "net": result.net, "details": runs.packed(result.details)}
    try:
        made = _values(backtest)  # candles of years take a while: before the others have to wait
        with transaction.atomic():
            runs.take_turns()
            tape, _ = StoredTape.objects.get_or_create(digest=backtest.tape.digest, defaults=made)
            run = BacktestRun.objects.create(tape=tape, **values)
            runs.delete_old()
    except OperationalError as failure:
        raise NotStored(str(failure).partition(" (")[0].splitlines()[0]) from failure
    except ProgrammingError as failure:
        raise NotStored("the database has no table of runs: run `manage.py migrate`") from failure
    return run


def _values(backtest: Backtest) -> dict[str, Any]:
    """Return the columns of the tape's row; those of a tape that is stored already are not made again."""
    tape = backtest.tape
    stored = StoredTape.objects.filter(digest=tape.digest).first()
    return {
        "start": moment_of(tape.start),
        "end": moment_of(tape.end),
        "inputs": tape.inputs,
        "release": tape.release,
        "agents": [_agent(vars(one)) for one in tape.agents],
        "bars": stored.bars if stored else runs.packed(bars_of(tape, backtest.market)),
        "created_at": clock.now(),
    }


def _agent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a taped agent, without its accounts and their ids."""
    names: Sequence[str] = (
        "name", "venue", "tokens", "weights", "min_confidence", "sizing_preset", "exit_preset", "fees",
    )  # fmt: skip
    return {name: values[name] for name in names} | {"follows": len(values["follows"])}


def commit() -> str:
    """Return the commit of the code, with `-dirty` where files differ from it; empty without a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()[:64] if done.returncode == 0 else ""
