"""Volatility bands by each method: their formulas, that they see nothing of later, and which fits best."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maxxit.core.errors import Rejected
from maxxit.learning import bands, worlds
from maxxit.learning.hours import Hours

METHODS = ["std", "ewma", "atr", "garch", "har"]
moves = arrays(np.float64, st.integers(30, 80), elements=st.floats(-0.2, 0.2, allow_subnormal=False))


@pytest.fixture(scope="module")
def hours() -> Hours:
    return worlds.world(3, 60)[0]


def prices(returns: Any) -> Any:
    close = 100 * np.exp(np.cumsum(returns))
    return close * 1.01, close * 0.98, close


@given(moves)
def test_std_and_atr_are_those_of_talib(returns: Any) -> None:
    high, low, close = prices(returns)
    assert bands.std(returns) == pytest.approx(talib.STDDEV(returns, 20), nan_ok=True, abs=1e-7)
    assert bands.atr(high, low, close) * close == pytest.approx(talib.ATR(high, low, close, 14), nan_ok=True)


@given(moves)
def test_ewma_weighs_each_square_by_its_age(returns: Any) -> None:
    weights = 0.06 * 0.94 ** np.arange(len(returns) - 1, -1, -1)
    weights[0] /= 0.06
    assert bands.ewma(returns)[-1] ** 2 == pytest.approx(float(weights @ returns**2), abs=1e-15)


@given(moves)
def test_garch_parameters_keep_the_bounds_and_the_mean_variance(returns: Any) -> None:
    fitted = bands.garch_parameters(returns)
    assert 0.01 <= fitted.alpha <= 0.2
    assert fitted.beta >= 0.75
    assert fitted.alpha + fitted.beta <= 0.999
    mean = fitted.omega / (1 - fitted.alpha - fitted.beta)
    assert mean == pytest.approx(float((returns**2).mean()), rel=1e-9, abs=1e-18)


@pytest.mark.parametrize(
    ("squares", "alpha", "beta"),
    [
        ([1, 0, 1, 0] * 20, 0.2, 0.75),  # an autocorrelation of nearly -1
        ([1.0] * 40, 0.01, 0.94),
        ([1, 1, 0, 0] * 20, 0.0125, 0.9375),
    ],
)
def test_garch_parameters_follow_the_autocorrelation_of_the_squares(
    squares: list[float], alpha: float, beta: float
) -> None:
    fitted = bands.garch_parameters(np.sqrt(np.array(squares, float)) / 100)
    assert (fitted.alpha, fitted.beta) == pytest.approx((alpha, beta))


@given(moves)
def test_a_band_grows_with_the_returns(returns: Any) -> None:
    fitted = bands.Garch(0.0, 0.1, 0.85)
    for method in (
        bands.std,
        bands.ewma,
        lambda one: bands.garch(one, replace(fitted, omega=float((one**2).mean()))),
    ):
        assert method(2 * returns) == pytest.approx(2 * method(returns), nan_ok=True, abs=1e-12)


@given(moves, st.integers(25, 29))
def test_no_band_sees_what_comes_later(returns: Any, cut: int) -> None:
    fitted = bands.Garch(1e-6, 0.1, 0.85)
    high, low, close = prices(returns)
    for whole, part in (
        (bands.std(returns), bands.std(returns[:cut])),
        (bands.ewma(returns), bands.ewma(returns[:cut])),
        (bands.garch(returns, fitted), bands.garch(returns[:cut], fitted)),
        (bands.atr(high, low, close), bands.atr(high[:cut], low[:cut], close[:cut])),
    ):
        assert np.array_equal(whole[:cut], part, equal_nan=True)


def test_each_method_is_measured_on_the_last_bars(hours: Hours) -> None:
    fits = bands.compare(hours, 2.0)
    assert [fit.method for fit in fits] == METHODS
    for fit in fits:
        assert fit.qlike >= 0
        assert fit.fitted_coverage == pytest.approx(0.95, abs=0.03), fit
        assert 0 < fit.multiplier < 5
    by_name = {fit.method: fit for fit in fits}
    assert by_name["har"].qlike < by_name["std"].qlike, "the world has a daily pattern, which only har knows"
    assert bands.best({"T0": fits}) == "har"
    assert bands.best({"T0": fits}, ("std", "ewma", "atr").__contains__) in ("std", "ewma", "atr")


def test_a_wider_multiplier_covers_no_fewer_bars(hours: Hours) -> None:
    narrow, wide = bands.compare(hours, 1.0), bands.compare(hours, 3.0)
    assert all(one.coverage < other.coverage for one, other in zip(narrow, wide, strict=True))
    assert [one.qlike for one in narrow] == [other.qlike for other in wide]


def test_the_parameters_are_not_fitted_to_the_bars_that_measure_them(hours: Hours) -> None:
    end = int(len(hours) * bands.TRAINING) + 5
    moved = hours.close.copy()
    moved[end:] *= np.exp(np.linspace(0, 3, len(hours) - end))
    changed = bands.compare(replace(hours, close=moved), 2.0)
    assert [fit.multiplier for fit in changed] == pytest.approx(
        [fit.multiplier for fit in bands.compare(hours, 2.0)]
    )


def test_too_few_hours_are_refused(hours: Hours) -> None:
    with pytest.raises(Rejected, match="T0: 400 hours of bars, and 769 are needed"):
        bands.compare(hours.until(400), 2.0)
