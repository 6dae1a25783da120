"""Sweeps are the same whatever runs them, and say what luck would reach; walk-forwards test on later days only."""

from decimal import Decimal

import numpy as np
import pytest

from maxxit.backtest import sweep as sweeps
from maxxit.backtest.run import Backtest
from maxxit.backtest.sweep import Sweep, Tried, grid, sweep, values_of, walk_forward
from maxxit.core.errors import Misconfigured
from maxxit.learning.statistics import deflated_sharpe, sharpe
from positions.performance import returns
from tests.backtest.tapes import START, small_tape

DAY = 86_400


def test_values_are_lists_or_ranges() -> None:
    assert values_of("1, 2,x") == ["1", "2", "x"]
    assert values_of("0.5..2..0.5") == ["0.5", "1", "1.5", "2"]
    for wrong in ("1..2", "2..1..1", "1..2..0", "1..9999..1", "a..b..c"):
        with pytest.raises(Misconfigured, match=r"FIRST\.\.LAST\.\.STEP"):
            values_of(wrong)


def test_a_grid_holds_each_combination_or_a_draw_of_them() -> None:
    varied = {"a": ["1", "2"], "b": ["x", "y", "z"]}

    assert len(grid(varied, 6, 1)) == 6
    drawn = grid(varied, 4, 1)
    assert len({tuple(one.items()) for one in drawn}) == 4
    assert drawn == grid(varied, 4, 1)
    assert all(one in grid(varied, 6, 1) for one in drawn)


def test_processes_change_nothing_and_a_refused_setting_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweeps, "CHUNK", 2)
    backtest = Backtest(small_tape(days=5))
    settings = grid({"exits.signal.trailing_pct": ["0.5", "1", "2", "none"]}, 10, 1)

    one, two = sweep(backtest, settings), sweep(backtest, settings, processes=2)

    assert [t.changes for t in one.tried] == [t.changes for t in two.tried]
    assert [t.figures for t in one.tried] == [t.figures for t in two.tried]
    assert len(one.tried) == 3
    [(why, times)] = one.refused.items()
    assert times == 1
    assert "give both or neither" in why
    ratios = [returns.sharpe(t.daily) or 0 for t in one.tried]
    assert ratios == sorted(ratios, reverse=True)


def made(daily: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> Sweep:
    """A sweep of made-up daily returns, one row a setting."""
    figures = object()
    rows = [Tried({"n": str(n)}, figures, row) for n, row in enumerate(daily)]  # type: ignore[arg-type]
    return Sweep(sorted(rows, key=lambda one: -sharpe(one.daily)))


def test_the_best_of_many_random_walks_is_called_luck_and_an_edge_is_not() -> None:
    chance = np.random.default_rng(7)
    worlds, promoted = 200, 0
    for _ in range(worlds):
        done = made(chance.normal(0, 0.01, (50, 120)))
        promoted += (done.deflated or 0) >= sweeps.LUCK
    print(f"random walks called more than luck: {promoted} of {worlds}")
    assert promoted <= worlds * 0.05

    edge = chance.normal(0, 0.01, (50, 120))
    edge[3] += 0.006
    assert (made(edge).deflated or 0) >= sweeps.LUCK
    assert "more than luck" in made(edge).verdict()
    assert "may well be luck" in made(chance.normal(0, 0.01, (50, 120))).verdict()


def test_a_walk_forward_tests_what_was_best_before_on_later_days() -> None:
    daily = np.full((2, 30), 0.001)
    daily += np.random.default_rng(1).normal(0, 1e-4, daily.shape)
    daily[0, :14] += 0.02  # best in the first half
    daily[1, 14:] += 0.02

    found = walk_forward(made(daily), START, train=10, test=5, embargo=1)

    assert [one.changes["n"] for one in found.windows] == ["0", "0", "1"]
    assert [(one.test_from.timestamp() - START) / DAY for one in found.windows] == [11, 16, 21]
    assert len(found.out_of_sample) == 15
    assert found.windows[1].test_return < 0.02  # what was best before is not best after
    with pytest.raises(Misconfigured, match="the tape has 30 days: too few for 28 of training"):
        walk_forward(made(daily), START, train=28, test=5)


@pytest.mark.parametrize("later", [0, 1])
def test_settings_that_tie_on_the_days_before_are_not_chosen_by_the_days_after(later: int) -> None:
    daily = np.tile(np.random.default_rng(2).normal(0.001, 0.01, 20), (2, 1))
    daily[later, 10:] += 0.02  # which of both is better afterwards

    found = walk_forward(made(daily), START, train=10, test=10, embargo=0)

    assert [one.changes["n"] for one in found.windows] == ["0"]


def test_no_sharpe_ratio_is_stated_of_fewer_than_thirty_days() -> None:
    daily = np.random.default_rng(4).normal(0.001, 0.01, (3, 30))
    enough, short = made(daily), made(daily[:, 1:])

    assert enough.luck is not None
    assert "the best has a Sharpe ratio of" in enough.verdict()
    assert (short.luck, short.deflated) == (None, None)
    assert (
        short.verdict()
        == "3 settings tried on 29 days: with fewer than 30 the best cannot be told from luck."
    )
    forward = walk_forward(enough, START, train=20, test=5, embargo=0)
    assert forward.test_sharpe is None
    assert [one.train_sharpe for one in forward.windows] == [None, None]
    assert forward.windows[0].train_return != 0


def test_the_sharpe_ratio_of_a_period_is_that_of_the_page_performance_before_it_is_annualised() -> None:
    daily = np.random.default_rng(5).normal(0.001, 0.01, 60)

    assert returns.sharpe(daily) == pytest.approx(sharpe(daily) * np.sqrt(365))
    flat = np.full(60, 0.1)  # its deviation is not exactly 0
    assert (returns.sharpe(flat), sharpe(flat)) == (None, 0.0)


def test_one_setting_needs_no_deflation() -> None:
    daily = np.random.default_rng(3).normal(0.001, 0.01, 60)

    assert deflated_sharpe(daily, 1) > deflated_sharpe(daily, 1000)


def test_settings_that_lose_all_their_capital_break_neither_sweep_nor_walk_forward() -> None:
    tape = small_tape(days=8)
    for call in tape.calls:
        call.sides = {"ETH": "short"}
    tape.venues["paper"]["shorts"] = True
    tape.venues["paper"]["options"]["depth_usd"] = 10**9
    for row in tape.quotes["ETH"]:
        if row[0] > 400:  # a bar that no stop can leave before
            row[1] = str(Decimal(row[1]) * 100)
    tape.agents[0].sizing_preset = "aggressive"
    settings = grid({"agents.Follower.min_confidence": ["0.4", "1"]}, 10, 1)

    done = sweep(Backtest(tape), settings)

    by_confidence = {one.changes["agents.Follower.min_confidence"]: one for one in done.tried}
    lost, kept = by_confidence["0.4"], by_confidence["1"]
    assert lost.figures.twr == -1
    assert lost.figures.max_drawdown == 1
    assert kept.figures.twr == 0
    assert len(lost.daily) == len(kept.daily) == 8
    assert lost.daily.min() == -1
    assert lost.daily[3:].tolist() == [0] * 5
    found = walk_forward(done, START, train=1, test=1, embargo=0)
    assert len(found.windows) == 7
    assert np.isfinite(found.out_of_sample).all()
