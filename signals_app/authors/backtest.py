"""What a call would have made: entry at the next bar's open, exits along the path, costs. Pure.

Where one bar holds both the stop and the target, the stop came first: the order within a bar is unknown, and the
worse one is assumed. A bar that opens beyond the stop fills there, which is worse; one that opens beyond the target
fills at the target and no better. Returns are percent of the entry price, positive where the author was right.
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
"""Seconds after a call within which a bar must open; otherwise the token had no market then."""
DAY = timedelta(days=1)
RUN_PCT, FALL_PCT, RUN_FOR = 3.0, 3.0, timedelta(hours=4)
"""A pump: within four hours of the entry it gains the first, and a day after the entry it is down by the second."""


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
        """The moment up to which everything is known, seconds since 1970."""
        return int(self.opened[-1]) + BAR_SECONDS if len(self.opened) else 0

    def known_by(self, moment: int) -> "Series":
        """The bars that had closed by `moment`, seconds since 1970."""
        end = int(np.searchsorted(self.opened, moment - BAR_SECONDS, side="right"))
        prices = (self.open, self.high, self.low, self.close)
        return Series(self.opened[:end], *(price[:end] for price in prices))

    def close_at(self, moment: float) -> float | None:
        """The close of the last bar that had closed by `moment`, seconds since 1970; None where it is an hour old."""
        place = int(np.searchsorted(self.opened, moment - BAR_SECONDS, side="right")) - 1
        if place < 0 or moment - self.opened[place] > LONGEST_WAIT:
            return None
        return float(self.close[place])

    def entry(self, known_at: float) -> int | None:
        """The first bar that opens once the call is known; None when none opens within an hour."""
        place = int(np.searchsorted(self.opened, known_at, side="left"))
        if place >= len(self.opened) or self.opened[place] - known_at > LONGEST_WAIT:
            return None
        return place


@dataclass(frozen=True, slots=True)
class Terms:
    """How every call is traded."""

    take_profit_pct: float
    stop_loss_pct: float
    cost_pct: float
    """Entry and exit together: fees and slippage, percent of the entry."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call held for at most one horizon."""

    exit_by: Literal["stop", "target", "time"]
    gross_pct: float
    net_pct: float
    """After costs."""
    favourable_pct: float
    """The furthest it went the author's way before the exit; not negative."""
    adverse_pct: float
    """The furthest it went against, up to and with the exit; not negative."""


def outcomes(
    series: Series, place: int, side: Side, horizons: Sequence[timedelta], terms: Terms
) -> dict[timedelta, Outcome]:
    """What entering at the open of bar `place` came to. Horizons that had not ended within the bars are left out:
    keeping only those of their trades that left early would be choosing by result."""
    start = int(series.opened[place])
    ended = [horizon for horizon in horizons if start + horizon.total_seconds() <= series.until]
    if not ended:
        return {}
    last = int(np.searchsorted(series.opened, start + max(ended).total_seconds(), side="left"))
    path = _Path.of(series, place, last, side)
    stop = _first(path.worst <= -terms.stop_loss_pct)
    target = _first(path.best >= terms.take_profit_pct)
    made = {}
    for horizon in ended:
        end = int(np.searchsorted(series.opened, start + horizon.total_seconds(), side="left")) - place
        made[horizon] = _leave(path, end, stop, target, terms)
    return made


@dataclass(frozen=True, slots=True)
class _Path:
    """Bars since the entry as percent of its price, positive where the author is right."""

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
    """The first bar in which it is so; beyond the last when it never is."""
    return int(hit.argmax()) if hit.any() else len(hit)


def _leave(path: _Path, end: int, stop: int, target: int, terms: Terms) -> Outcome:
    """The exit within the first `end` bars: the stop, the target, or the last close."""
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
    """Whether the price ran the call's way after the entry and stood below it a day later; None: not yet known."""
    start = int(series.opened[place])
    if start + DAY.total_seconds() > series.until:
        return None
    run, day = (
        int(np.searchsorted(series.opened, start + span.total_seconds(), side="left"))
        for span in (RUN_FOR, DAY)
    )
    path = _Path.of(series, place, day, side)
    return _highest(path.best[: run - place]) >= RUN_PCT and float(path.close[-1]) <= -FALL_PCT
