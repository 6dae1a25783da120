"""Backtests one call on five-minute bars: entry at the next bar's open, exit by stop, target or time, costs. Pure.

Where one bar touches both the stop and the target, the stop is taken first: the order within a bar is unknown, and the
worse one is assumed. A bar that opens beyond the stop fills at its open; one that opens beyond the target fills at the
target. Returns are percent of the entry price, positive where the author was right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maxxit.market.feeds.bars import BAR

Floats = NDArray[np.float64]
Side = Literal["long", "short"]
BAR_SECONDS = int(BAR.total_seconds())
LONGEST_WAIT = 3600
"""Seconds after a call within which a bar must open; otherwise the call is not traded."""
DAY = timedelta(days=1)
RUN_PCT, FALL_PCT, RUN_FOR = 3.0, 3.0, timedelta(hours=4)
"""A pump gains RUN_PCT within four hours of the entry and is down FALL_PCT a day after it."""


@dataclass(frozen=True)
class Series:
    """Five-minute bars of one token, oldest first; prices in USD."""

    opened: NDArray[np.int64]
    """Seconds since 1970, UTC."""
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @property
    def until(self) -> int:
        """The end of the last bar, seconds since 1970."""
        return int(self.opened[-1]) + BAR_SECONDS if len(self.opened) else 0

    def known_by(self, moment: int) -> "Series":
        """Return the bars that had closed by `moment`, seconds since 1970."""
        end = int(np.searchsorted(self.opened, moment - BAR_SECONDS, side="right"))
        prices = (self.open, self.high, self.low, self.close)
        return Series(self.opened[:end], *(price[:end] for price in prices))

    def close_at(self, moment: float) -> float | None:
        """Return the last close known by `moment`, seconds since 1970; None where it is older than an hour."""
        index = int(np.searchsorted(self.opened, moment - BAR_SECONDS, side="right")) - 1
        if index < 0 or moment - self.opened[index] > LONGEST_WAIT:
            return None
        return float(self.close[index])

    def entry(self, known_at: float) -> int | None:
        """Return the index of the first bar that opens at or after `known_at`; None when none does within an hour."""
        index = int(np.searchsorted(self.opened, known_at, side="left"))
        if index >= len(self.opened) or self.opened[index] - known_at > LONGEST_WAIT:
            return None
        return index


@dataclass(frozen=True, slots=True)
class Terms:
    """Exit levels and costs of every backtested call."""

    take_profit_pct: float
    stop_loss_pct: float
    cost_pct: float
    """Fees and slippage of entry and exit together, percent of the entry."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one call held for at most one horizon."""

    exit_by: Literal["stop", "target", "time"]
    gross_pct: float
    net_pct: float
    """After costs."""
    favourable_pct: float
    """Maximum favourable excursion before the exit; not negative."""
    adverse_pct: float
    """Maximum adverse excursion up to and including the exit; not negative."""


def outcomes(
    series: Series, place: int, side: Side, horizons: Sequence[timedelta], terms: Terms
) -> dict[timedelta, Outcome]:
    """Backtest an entry at the open of bar `place`, for each horizon that ended within the bars.

    Other horizons are left out even after an early exit: keeping only their early exits would select by result.
    """
    start = int(series.opened[place])
    ended = [horizon for horizon in horizons if start + horizon.total_seconds() <= series.until]
    if not ended:
        return {}
    last = int(np.searchsorted(series.opened, start + max(ended).total_seconds(), side="left"))
    path = _Path.of(series, place, last, side)
    stop = _first(path.worst <= -terms.stop_loss_pct)
    target = _first(path.best >= terms.take_profit_pct)
    results = {}
    for horizon in ended:
        end = int(np.searchsorted(series.opened, start + horizon.total_seconds(), side="left")) - place
        results[horizon] = _exit(path, end, stop, target, terms)
    return results


@dataclass(frozen=True, slots=True)
class _Path:
    """Bars since the entry in percent of the entry price, positive where the author is right."""

    open: Floats
    best: Floats
    worst: Floats
    close: Floats

    @classmethod
    def of(cls, series: Series, start: int, end: int, side: Side) -> "_Path":
        entry = float(series.open[start])
        sign = 100.0 if side == "long" else -100.0

        def moved(prices: Floats) -> Floats:
            return np.multiply(prices[start:end] / entry - 1, sign, dtype=np.float64)

        high, low = moved(series.high), moved(series.low)
        best, worst = (high, low) if side == "long" else (low, high)
        return cls(moved(series.open), best, worst, moved(series.close))


def _first(hit: NDArray[np.bool_]) -> int:
    """Return the index of the first True; the length when there is none."""
    return int(hit.argmax()) if hit.any() else len(hit)


def _exit(path: _Path, end: int, stop: int, target: int, terms: Terms) -> Outcome:
    """Exit within the first `end` bars: at the stop, the target, or the last close."""
    if stop < end and stop <= target:
        gross = min(float(path.open[stop]), -terms.stop_loss_pct)
        return _outcome("stop", gross, _highest(path.best[:stop]), -gross, terms)
    if target < end:
        gross = terms.take_profit_pct
        return _outcome("target", gross, gross, -_lowest(path.worst[: target + 1]), terms)
    gross = float(path.close[end - 1])
    return _outcome("time", gross, _highest(path.best[:end]), -_lowest(path.worst[:end]), terms)


def _outcome(
    exit_by: Literal["stop", "target", "time"],
    gross: float,
    favourable: float,
    adverse: float,
    terms: Terms,
) -> Outcome:
    return Outcome(exit_by, gross, gross - terms.cost_pct, favourable, adverse)


def _highest(values: Floats) -> float:
    return float(values.max(initial=0.0))


def _lowest(values: Floats) -> float:
    return float(values.min(initial=0.0))


def pumped(series: Series, place: int, side: Side) -> bool | None:
    """Return whether the price ran the call's way after the entry and fell below it a day later; None: unknown yet."""
    start = int(series.opened[place])
    if start + DAY.total_seconds() > series.until:
        return None
    run, day = (
        int(np.searchsorted(series.opened, start + span.total_seconds(), side="left"))
        for span in (RUN_FOR, DAY)
    )
    path = _Path.of(series, place, day, side)
    return _highest(path.best[: run - place]) >= RUN_PCT and float(path.close[-1]) <= -FALL_PCT
