"""Stored runs on a made-up tape, as the command stores them."""

from functools import cache

from maxxit.backtest import saving
from maxxit.backtest.figures import equity_curve, figures_of
from maxxit.backtest.models import BacktestRun, Kind
from maxxit.backtest.report import monte_carlo_of
from maxxit.backtest.run import Backtest
from maxxit.backtest.saving import Asked
from maxxit.backtest.sweep import Changes, grid, sweep, walk_forward
from maxxit.core import clock
from tests.backtest.tapes import agent, small_tape

TRAILING, CONFIDENCE = "exits.signal.trailing_pct", "agents.Follower.min_confidence"
VARIED = {TRAILING: ["0.5", "1", "2"], CONFIDENCE: ["0.4", "0.5"]}


@cache
def backtest() -> Backtest:
    """A month on which a Sharpe ratio is stated, of two agents."""
    agents = [agent(), agent(2, "Chartist", tokens=["ETH"])]
    return Backtest(small_tape(days=30, agents=agents, inputs={"posts.jsonl": "ab" * 32}))


def _asked(kind: Kind, changes: Changes, **more: object) -> Asked:
    return Asked(kind, changes, "olga", clock.now(), seed=1, **more)  # type: ignore[arg-type]


def store_run(changes: Changes | None = None, note: str = "") -> BacktestRun:
    """Store a single run."""
    outcome = backtest().run(changes or {})
    asked = _asked(Kind.RUN, changes or {}, note=note)
    curve = equity_curve(outcome, backtest().market)
    figures, drawn = figures_of(outcome, backtest().market, curve), monte_carlo_of(outcome, curve, 1)
    return saving.store(backtest(), asked, saving.result_of_run(outcome, curve, figures, drawn))


def store_refused() -> BacktestRun:
    """Store a run that was refused."""
    return saving.store(
        backtest(), _asked(Kind.RUN, {"generate.bars": "9"}), None, "generate.bars is recorded on the tape"
    )


def store_sweep(varied: dict[str, list[str]] | None = None) -> BacktestRun:
    """Store a sweep of two settings, or of others."""
    varied = varied or VARIED
    done = sweep(backtest(), grid(varied, 100, 1))
    texts = {key: ",".join(values) for key, values in varied.items()}
    asked = _asked(Kind.SWEEP, {}, varied=texts, options={"tries_at_most": 100})
    return saving.store(backtest(), asked, saving.result_of_sweep(done))


def store_walk_forward() -> BacktestRun:
    """Store a walk-forward with two windows."""
    done = sweep(backtest(), grid({TRAILING: ["0.5", "2"]}, 100, 1))
    found = walk_forward(done, backtest().tape.start, 14, 7, 1)
    days = {"train_days": 14, "test_days": 7, "embargo_days": 1}
    asked = _asked(Kind.WALK_FORWARD, {}, varied={TRAILING: "0.5,2"}, options=days)
    return saving.store(backtest(), asked, saving.result_of_walk_forward(found))
