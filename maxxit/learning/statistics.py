"""Statistics of forecasts and of trading results: pinball loss, QLIKE, block bootstrap, deflated Sharpe ratio. Pure."""

from collections.abc import Sequence
from math import e, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from maxxit.learning.hours import Floats

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""The quantiles of every forecast; 0.1 to 0.9 is the 80 % interval, 0.05 to 0.95 the 90 % interval."""
RESAMPLES = 1_000
NO_SPREAD = 1e-12
"""Deviations below it come from rounding: the ratio that divides by them is undefined."""
EULER = 0.5772156649015329


def pinball(actual: Floats, quantiles: Floats) -> Floats:
    """Return the mean pinball loss over `LEVELS` of each row. `quantiles` has shape (n, 7)."""
    off = actual[:, None] - quantiles
    levels = np.array(LEVELS)
    losses: Floats = np.maximum(levels * off, (levels - 1) * off).mean(axis=1)
    return losses


def qlike(realised: Floats, forecast: Floats) -> float:
    """Return the mean QLIKE loss of volatility forecasts; 0 is perfect. It punishes forecasts that are too low."""
    ratio = (realised / forecast) ** 2
    return float(np.mean(ratio - np.log(ratio) - 1))


def bootstrap(differences: Floats, block: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of a time series, by a circular block bootstrap.

    Args:
        block: length of a block in rows, at least the overlap of neighbouring values.
    """
    count = len(differences)
    if count < 2:
        return (-np.inf, np.inf)
    size = max(1, min(block, count // 2))
    random = np.random.default_rng(seed)
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([differences, differences]))])
    blocks = -(-count // size)
    starts = random.integers(0, count, (RESAMPLES, blocks))
    means = (sums[starts + size] - sums[starts]).sum(axis=1) / (blocks * size)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def sharpe(returns: Floats) -> float:
    """Return mean divided by standard deviation, for one period (not annualised); 0 where nothing moves.

    `positions.performance.returns.sharpe` annualises the same ratio.
    """
    deviation = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    return float(np.mean(returns)) / deviation if deviation > NO_SPREAD else 0.0


def best_of_luck(candidates: int, periods: int) -> float:
    """Return the Sharpe ratio for one period that the best of `candidates` without any skill is expected to reach.

    From the variance 1 / (periods − 1) under the null hypothesis, not from the spread across trials, which costs
    inflate (Bailey and López de Prado, The Deflated Sharpe Ratio, 2014).
    """
    if candidates < 2 or periods < 2:
        return 0.0
    normal = NormalDist()
    expected = (1 - EULER) * normal.inv_cdf(1 - 1 / candidates) + EULER * normal.inv_cdf(
        1 - 1 / (candidates * e)
    )
    return expected / sqrt(periods - 1)


def deflated_sharpe(returns: Floats, candidates: int) -> float:
    """Return the probability that the true Sharpe ratio is above `best_of_luck`, by skew and kurtosis."""
    periods = len(returns)
    ratio = sharpe(returns)
    if periods < 3 or ratio == 0.0:
        return 0.0
    z = (returns - returns.mean()) / returns.std()
    skew, kurtosis = float(np.mean(z**3)), float(np.mean(z**4))
    spread = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    if spread <= 0:
        return 0.0
    return NormalDist().cdf((ratio - best_of_luck(candidates, periods)) * sqrt((periods - 1) / spread))


def empirical(z: Floats, *, symmetric: bool) -> tuple[float, ...]:
    """Return the quantiles of standardised returns at `LEVELS`; symmetric ones have the median 0."""
    if not symmetric:
        return tuple(float(value) for value in np.quantile(z, LEVELS))
    return tuple(
        float(np.sign(level - 0.5) * np.quantile(np.abs(z), abs(2 * level - 1))) if level != 0.5 else 0.0
        for level in LEVELS
    )


def mean_by(keys: NDArray[np.int64], values: Floats) -> Floats:
    """Return the mean of `values` for each distinct key, in order of the keys: symbols of one hour move together."""
    _, places = np.unique(keys, return_inverse=True)
    means: Floats = np.bincount(places, values) / np.bincount(places)
    return means


def worst_fall(returns: Sequence[float] | Floats) -> float:
    """Return the max drawdown of a sequence of returns that are added up, as a positive fraction."""
    curve = np.concatenate([[0.0], np.cumsum(np.asarray(returns, dtype=np.float64))])
    return float(np.max(np.maximum.accumulate(curve) - curve))
