"""Monte Carlo tests of closed trades: the same results in another order, and fills that are worse.

Both are pure. Money is in whole USDC base units (1 USD = 1,000,000), so that every sum is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Units = NDArray[np.int64]

DRAWS = 2_000
CHUNK = 1_000_000
"""At most this many numbers are in memory at once."""
STEPS = 10_000
"""An extra slippage is drawn in steps of a ten-thousandth of the largest."""
ORDER_SHOWS_NOT = (
    "It does not show trades that the market would have given at other times, sizes that follow the balance, positions "
    "that were open together, or losses larger than those recorded; and the sum is the same in every order."
)
SLIPPAGE_SHOWS_NOT = (
    "It does not show orders that would not have been filled or that move the price, stops that would have been "
    "reached earlier, or a profit share that is smaller because less was earned."
)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of the draws, USDC base units: each is the value of a draw."""

    low: int
    """5 %."""
    median: int
    high: int
    """95 %."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The max drawdown of the realised PnL where the same trades come in another order."""

    draws: int
    trades: int
    drawdown: int
    """In the order in which they closed, USDC base units."""
    shuffled: Quantiles
    worse_share: float
    """Fraction of the draws whose drawdown is larger than the real one."""
    ruined_share: float
    """Fraction of the draws in which the capital is used up at some moment."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self) | {"does_not_show": ORDER_SHOWS_NOT}


@dataclass(frozen=True, slots=True)
class WorseFills:
    """The sum of all results where each trade is filled worse, by a random extra slippage."""

    draws: int
    trades: int
    most_bps: int
    net: int
    """Without extra slippage, USDC base units."""
    slipped: Quantiles
    positive_share: float
    """Fraction of the draws that earn something."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self) | {"does_not_show": SLIPPAGE_SHOWS_NOT}


def shuffled_orders(results: Sequence[int], capital: int, *, draws: int = DRAWS, seed: int = 1) -> Orders:
    """Draw random orders of the trades, and measure the max drawdown of the summed results in each.

    Args:
        results: of each closed position after all costs, USDC base units, in the order in which they closed.
        capital: before the first, USDC base units.

    Raises:
        ValueError: no result, or no draw.
    """
    real = _checked(results, draws)
    random = np.random.default_rng(seed)
    falls, lowest = [], []
    for rows in _chunks(draws, len(real)):
        sums = np.cumsum(random.permuted(np.tile(real, (rows, 1)), axis=1), axis=1)
        falls.append(_drawdowns(sums))
        lowest.append(sums.min(axis=1))
    drawn = np.concatenate(falls)
    actual = int(_drawdowns(np.cumsum(real)[None, :])[0])
    return Orders(
        draws, len(real), actual, _quantiles(drawn), float((drawn > actual).mean()),
        float((np.concatenate(lowest) <= -capital).mean()),
    )  # fmt: skip


def worse_fills(
    results: Sequence[int], traded: Sequence[int], most_bps: int, *, draws: int = DRAWS, seed: int = 1
) -> WorseFills:
    """Draw for each trade an extra slippage between 0 and `most_bps` of what it traded, all equally likely.

    Args:
        results: of each closed position after all costs, USDC base units.
        traded: entry and exit together of the same positions, USDC base units.
        most_bps: basis points.

    Raises:
        ValueError: no result, no draw, a negative number, or lists of different lengths.
    """
    real, notional = _checked(results, draws), np.asarray(traded, dtype=np.int64)
    if notional.shape != real.shape or most_bps < 0 or bool((notional < 0).any()):
        raise ValueError("give as many amounts traded as results, and none below zero")
    random = np.random.default_rng(seed)
    most = notional * most_bps // 10_000
    sums = []
    for rows in _chunks(draws, len(real)):
        steps = random.integers(0, STEPS, (rows, len(real)), endpoint=True)
        sums.append(int(real.sum()) - _part(most, steps).sum(axis=1))
    drawn = np.concatenate(sums)
    return WorseFills(
        draws, len(real), most_bps, int(real.sum()), _quantiles(drawn), float((drawn > 0).mean())
    )


def _checked(results: Sequence[int], draws: int) -> Units:
    real = np.asarray(results, dtype=np.int64)
    if not len(real) or draws < 1:
        raise ValueError("a Monte Carlo test needs at least one result and one draw")
    return real


def _chunks(draws: int, columns: int) -> Iterator[int]:
    """Yield how many draws to make together."""
    step = max(CHUNK // columns, 1)
    for done in range(0, draws, step):
        yield min(step, draws - done)


def _part(most: Units, steps: Units) -> Units:
    """Return most × steps / STEPS rounded down, without the product of two large numbers."""
    whole, rest = np.divmod(most, STEPS)
    return whole * steps + rest * steps // STEPS


def _drawdowns(sums: Units) -> Units:
    """Return the largest decline from an earlier highest value, or from zero, of each row."""
    peaks = np.maximum(np.maximum.accumulate(sums, axis=1), 0)
    found: Units = (peaks - sums).max(axis=1)
    return found


def _quantiles(drawn: Units) -> Quantiles:
    low, median, high = np.quantile(drawn, (0.05, 0.5, 0.95), method="lower")
    return Quantiles(int(low), int(median), int(high))
