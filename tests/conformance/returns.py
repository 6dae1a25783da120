"""Returns, ratios and drawdown of random histories: empyrical, the library of Zipline and Pyfolio, and pandas."""

from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest

from positions.performance import returns
from tests.positions.performance.accounts import random_history

YEAR = {"annualization": 365}


def exactly(value: float) -> Any:
    return pytest.approx(float(value), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", range(100))
def test_each_figure_is_that_of_empyrical(seed: int) -> None:
    history = random_history(seed)
    joined = returns.curve(*history.columns)
    daily, drawdown = returns.daily(joined).returns, returns.max_drawdown(joined)
    theirs = pd.Series(history.returns, index=pd.to_datetime(history.at[1:], unit="s", utc=True))

    assert drawdown
    assert returns.twr(joined) == exactly(empyrical.cum_returns_final(theirs))
    assert -drawdown.percent / 100 == exactly(empyrical.max_drawdown(theirs))
    assert returns.sharpe(daily) == exactly(empyrical.sharpe_ratio(theirs, **YEAR))
    assert returns.sortino(daily) == exactly(empyrical.sortino_ratio(theirs, **YEAR))
    assert returns.calmar(daily) == exactly(empyrical.calmar_ratio(theirs, **YEAR))
    assert returns.volatility(daily) == exactly(empyrical.annual_volatility(theirs, **YEAR))


@pytest.mark.parametrize("seed", range(100))
def test_the_dates_of_the_drawdown_are_those_of_empyrical(seed: int) -> None:
    history = random_history(seed)
    drawdown = returns.max_drawdown(returns.curve(*history.columns))
    index = pd.Series(
        np.append(1.0, np.cumprod(1 + np.array(history.returns))),
        index=pd.to_datetime(history.at, unit="s", utc=True),
    )
    fall = index / index.cummax() - 1
    recovered = index[fall.idxmin() :][lambda rest: rest >= index[: fall.idxmin()].max()]

    assert drawdown
    assert drawdown.trough_at == fall.idxmin()
    assert drawdown.peak_at == index[: fall.idxmin()].idxmax()
    assert drawdown.recovered_at == (recovered.index[0] if len(recovered) else None)


@pytest.mark.parametrize("seed", range(30))
def test_the_daily_index_is_the_last_one_before_midnight_in_pandas(seed: int) -> None:
    history, source = random_history(seed), np.random.default_rng(seed)
    at = history.at[0] + np.cumsum(source.integers(1, 100_000, len(history.at)))
    joined = returns.curve(at.tolist(), *history.columns[1:])
    daily = returns.daily(joined)
    index = pd.Series(joined.index, index=pd.to_datetime(joined.at, unit="s", utc=True))
    days = index.resample("D", closed="right", label="right").last().ffill().dropna()

    assert daily.at[1:-1].tolist() == [moment.timestamp() for moment in days.index[:-1]]
    assert daily.index[1:].tolist() == days.tolist()
