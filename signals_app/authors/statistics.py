"""Statistics of backtests: cluster-bootstrap intervals, Benjamini-Hochberg correction, binomial tails. Pure, seeded.

Calls of one day are not independent: they share that day's market move. So whole clusters (days, or longer where a
trade lasts longer) are resampled, and the means are studentised, which keeps the coverage where clusters are few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

MIN_CLUSTERS = 8
"""Minimum number of clusters for an interval: with fewer its coverage is too low."""
LEVEL = 0.95
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval, in the unit of the values."""

    mean: float
    low: float | None
    """None: too few clusters, or no variance."""
    high: float | None
    p_value: float | None
    """Two-sided, for a true mean of zero."""
    clusters: int


def estimate(
    values: Sequence[float], clusters: Sequence[int], *, seed: Sequence[int], draws: int = DRAWS
) -> Estimate:
    """Estimate the mean of `values` with a studentised cluster-bootstrap interval; reproducible by `seed`."""
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(values, dtype=float)).astype(np.float64)
    sizes = np.bincount(place).astype(np.float64)
    count = len(sums)
    mean = float(sums.sum() / sizes.sum())
    error = float(_error(sums[None, :], sizes[None, :], np.array([mean]))[0]) if count > 1 else 0.0
    if count < MIN_CLUSTERS or error < 1e-12:
        return Estimate(mean, None, None, None, count)
    drawn = np.random.default_rng(list(seed)).integers(0, count, (draws, count))
    some, of = sums[drawn], sizes[drawn]
    means = some.sum(axis=1) / of.sum(axis=1)
    errors = _error(some, of, means)
    usable = errors > 1e-12
    distances = np.abs(means[usable] - mean) / errors[usable]
    reach = float(np.quantile(distances, LEVEL)) * error
    further = int((distances >= abs(mean) / error).sum())
    return Estimate(mean, mean - reach, mean + reach, (1 + further) / (1 + len(distances)), count)


def _error(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], means: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the standard error of a ratio of cluster sums, one for each row."""
    count = sums.shape[1]
    rest: NDArray[np.float64] = ((sums - means[:, None] * sizes) ** 2).sum(axis=1)
    error: NDArray[np.float64] = np.sqrt(count / (count - 1) * rest) / sizes.sum(axis=1)
    return error


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for the false discovery rate; None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank in range(len(known), 0, -1):
        p, place = known[rank - 1]
        least = min(least, p * len(known) / rank)
        adjusted[place] = least
    return adjusted


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """Return the probability of at least `successes` in `trials`, each with probability `chance`."""
    return float(
        sum(comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes, trials + 1))
    )
