"""Backtests one call on five-minute bars: entry at the next bar's open, exit by stop, target or time, costs. Pure.

Where one bar touches both the stop and the target, the stop is taken first: the order within a bar is unknown, and the
worse one is assumed. A bar that opens beyond the stop fills at its open; one that opens beyond the target fills at the
target. Returns are percent of the entry price, positive where the author was right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maxxit.market.feeds.bars import BAR

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
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

    opened: Ints
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

    def entries(self, known_at: Ints) -> Ints:
        """Return `entry` of each moment, without those for which no bar opens within an hour."""
        places = np.searchsorted(self.opened, known_at, side="left")
        waits = self.opened[np.minimum(places, len(self.opened) - 1)] - known_at
        return np.asarray(places[(places < len(self.opened)) & (waits <= LONGEST_WAIT)], dtype=np.int64)


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


def _first(hit: Bools) -> int:
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


class _Extremes:
    """The lowest or highest price of each run of 1, 2, 4 … bars: where a price is reached is found in a few steps."""

    def __init__(self, prices: Floats, *, highest: bool) -> None:
        extreme = np.maximum if highest else np.minimum
        self._of = [prices]
        """Of 2ⁿ bars, by their first one."""
        while 2 << len(self._of) - 1 <= len(prices):
            half = 1 << len(self._of) - 1
            self._of.append(extreme(self._of[-1][:-half], self._of[-1][half:]))

    def first(self, places: Ints, reached: Callable[[Floats], Bools]) -> Ints:
        """Return the first bar from each place on whose price is `reached`; the number of bars where none is.

        Args:
            reached: of one price for each place; true of every more extreme price where it is true of one.
        """
        found, count = places.copy(), len(self._of[0])
        for power in reversed(range(len(self._of))):
            extremes, width = self._of[power], 1 << power
            whole = found + width <= count
            rest = extremes[np.where(whole, found, 0)]
            found += width * (whole & ~reached(rest))
        return found


class Entries:
    """Entries at the opens of many bars, backtested together: the figures of `outcomes` and `pumped` for each.

    The cost of one grows with the logarithm of the number of bars.
    """

    def __init__(self, series: Series, places: Ints, side: Side) -> None:
        self._series, self._places = series, places
        self._starts, self._prices = series.opened[places], series.open[places]
        self._sign = 100.0 if side == "long" else -100.0
        high, low = _Extremes(series.high, highest=True), _Extremes(series.low, highest=False)
        self._best, self._worst = (high, low) if side == "long" else (low, high)

    def nets(self, horizons: Sequence[timedelta], terms: Terms) -> dict[timedelta, list[float]]:
        """Return the net percent of each entry whose horizon ended within the bars, in the order of the entries."""
        stop = self._worst.first(self._places, lambda price: self._moved(price) <= -terms.stop_loss_pct)
        target = self._best.first(self._places, lambda price: self._moved(price) >= terms.take_profit_pct)
        last = len(self._series.opened) - 1
        at_stop = np.minimum(self._moved(self._series.open[np.minimum(stop, last)]), -terms.stop_loss_pct)
        nets = {}
        for horizon in horizons:
            end = self._end(horizon)
            at_end = self._moved(self._series.close[end - 1])
            gross = np.where(target < end, terms.take_profit_pct, at_end)
            gross = np.where((stop < end) & (stop <= target), at_stop, gross)
            nets[horizon] = (gross - terms.cost_pct)[self._ended(horizon)].tolist()
        return nets

    def pumped(self) -> list[bool]:
        """Return `pumped` of each entry for which it is known."""
        run = self._best.first(self._places, lambda price: self._moved(price) >= RUN_PCT)
        fell = self._moved(self._series.close[self._end(DAY) - 1]) <= -FALL_PCT
        known: list[bool] = ((run < self._end(RUN_FOR)) & fell)[self._ended(DAY)].tolist()
        return known

    def _moved(self, prices: Floats) -> Floats:
        """Return one price for each entry in percent of the entry price, positive where the author is right."""
        return np.multiply(prices / self._prices - 1, self._sign, dtype=np.float64)

    def _end(self, span: timedelta) -> Ints:
        """Return the first bar that opens after each entry and the span."""
        ends = np.searchsorted(self._series.opened, self._starts + span.total_seconds(), side="left")
        return np.asarray(ends, dtype=np.int64)

    def _ended(self, span: timedelta) -> Bools:
        return np.asarray(self._starts + span.total_seconds() <= self._series.until)
