"""Volatility bands: how far the price may move in the next bar by five methods, and how well each one fits. Pure.

Element t of each method is the volatility of bar t + 1 (a fraction of the price), from what was known at the end of bar
t; NaN before its window is full. A price band is a multiple of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from maxxit.core.errors import Rejected
from maxxit.learning import features, statistics
from maxxit.learning.evaluate import gather
from maxxit.learning.forecasters import Har
from maxxit.learning.hours import Floats, Hours

WINDOW, DECAY, ATR_BARS = 20, 0.94, 14
"""Returns of `std`, decay of `ewma` and bars of `atr` (checklist D6)."""
ALPHA_BOUNDS, LEAST_BETA, SUM, MOST = (0.01, 0.2), 0.75, 0.95, 0.999
"""Of `garch_parameters` (checklist D6)."""
TRAINING = 0.6
"""Fraction of the bars, the first ones, that parameters and multipliers are fitted to; the others measure them."""
LEAST_BARS = 24 * 10
"""Bars that are measured, at least."""
INSIDE = 0.95
"""Share of the bars that a fitted multiplier holds inside the band."""


def std(returns: Floats, window: int = WINDOW) -> Floats:
    """Return the standard deviation (population) of the last `window` log returns."""
    found = np.full(len(returns), np.nan)
    if len(returns) >= window:
        found[window - 1 :] = sliding_window_view(returns, window).std(axis=1)
    return found


def ewma(returns: Floats, decay: float = DECAY) -> Floats:
    """Return the EWMA volatility of RiskMetrics: v ← decay · v + (1 − decay) · r², from the square of the first return.

    The indicator `ewma_pct` of a signal weighs the last 40 returns alone in the same way.
    """
    return np.sqrt(_recursion(returns[1:] ** 2, float(returns[0]) ** 2, 0.0, 1 - decay, decay))


def atr(high: Floats, low: Floats, close: Floats, bars: int = ATR_BARS) -> Floats:
    """Return the average true range of Wilder as a fraction of the close: a range, so above the standard deviation."""
    before = close[:-1]
    ranges = np.maximum(high[1:], before) - np.minimum(low[1:], before)
    found = np.full(len(close), np.nan)
    if len(ranges) >= bars:
        start = float(ranges[:bars].mean())
        found[bars:] = _recursion(ranges[bars:], start, 0.0, 1 / bars, 1 - 1 / bars)
    return found / close


@dataclass(frozen=True, slots=True)
class Garch:
    """A GARCH(1,1): v ← omega + alpha · r² + beta · v."""

    omega: float
    alpha: float
    beta: float


def garch_parameters(returns: Floats) -> Garch:
    """Return the parameters of checklist D6, which needs no optimiser.

    alpha is the size of the first autocorrelation of the squared returns, held within 0.01 and 0.2; beta is 0.95 less
    alpha, at least 0.75; together at most 0.999. omega makes the mean variance that of the returns.
    """
    squares = returns**2
    off = squares - squares.mean()
    spread = float(off @ off)
    rho = float(off[1:] @ off[:-1]) / spread if spread > 0 else 0.0
    alpha = float(np.clip(abs(rho), *ALPHA_BOUNDS))
    beta = max(LEAST_BETA, SUM - alpha)
    beta = min(beta, MOST - alpha)
    return Garch(float(squares.mean()) * (1 - alpha - beta), alpha, beta)


def garch(returns: Floats, fitted: Garch) -> Floats:
    """Return the volatility of a GARCH(1,1), from the mean variance of its parameters."""
    start = fitted.omega / (1 - fitted.alpha - fitted.beta)
    first = fitted.omega + fitted.alpha * float(returns[0]) ** 2 + fitted.beta * start
    return np.sqrt(_recursion(returns[1:] ** 2, first, fitted.omega, fitted.alpha, fitted.beta))


def _recursion(values: Floats, start: float, constant: float, new: float, old: float) -> Floats:
    """Return `start`, then constant + new · value + old · (the one before) for each value."""
    found = np.empty(len(values) + 1)
    level = found[0] = start
    for place, value in enumerate(values.tolist(), start=1):
        level = found[place] = constant + new * value + old * level
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """How one method did on the last bars of a symbol."""

    method: str
    qlike: float
    """QLIKE loss of the volatility against the realised one, after scaling by the training bars; 0 is perfect."""
    coverage: float
    """Share of the bars whose return lay within the multiplier that was asked for."""
    multiplier: float
    """That holds `INSIDE` of the training bars."""
    fitted_coverage: float
    """Share of the measured bars within it."""


def compare(hours: Hours, multiplier: float) -> list[Fit]:
    """Measure each method on the last bars of a symbol's hours: coverage of the band, and QLIKE.

    QLIKE is measured after each volatility was scaled to the training bars, because a band has a multiplier: what
    counts is whether it is wide when the price moves. Hours without a known close are left out.

    Args:
        multiplier: of the band whose coverage is measured.

    Raises Rejected where the hours are too few.
    """
    known = np.flatnonzero(np.isfinite(hours.close))
    close = hours.close[known]
    if len(close) < features.WARM_UP + LEAST_BARS / (1 - TRAINING):
        raise Rejected(
            f"{hours.symbol}: {len(close)} hours of bars, and "
            f"{round(features.WARM_UP + LEAST_BARS / (1 - TRAINING))} are needed",
            code="insufficient_history",
        )
    returns = np.diff(np.log(close))
    training = int(len(returns) * TRAINING)
    ready: dict[str, Floats] = {
        "std": np.append(np.nan, std(returns)),
        "ewma": np.append(np.nan, ewma(returns)),
        "atr": atr(hours.high[known], hours.low[known], close),
        "garch": np.append(np.nan, garch(returns, garch_parameters(returns[:training]))),
    }
    bands = {name: _on_grid(values, known, len(hours)) for name, values in ready.items()}
    bands["har"] = _har(hours, int(known[training]))
    after, realised = features.target(hours, 1)
    usable = np.isfinite(after) & np.isfinite(realised) & (np.arange(len(hours)) >= features.WARM_UP)
    for values in bands.values():
        usable &= np.isfinite(values) & (values > 0)
    first = usable & (np.arange(len(hours)) < known[training])
    last = usable & ~first
    if first.sum() < LEAST_BARS or last.sum() < LEAST_BARS:
        raise Rejected(f"{hours.symbol}: too few hours without gaps or moves", code="insufficient_history")
    return [_fit(name, values, after, realised, (first, last), multiplier) for name, values in bands.items()]


def _fit(
    name: str, band: Floats, after: Floats, realised: Floats, parts: tuple[Floats, Floats], multiplier: float
) -> Fit:
    first, last = parts
    scale = float(np.sqrt(np.mean((realised[first] / band[first]) ** 2)))
    moves = np.abs(after) / np.where(band > 0, band, np.nan)
    fitted = float(np.quantile(moves[first], INSIDE))
    return Fit(
        name,
        statistics.qlike(realised[last], scale * band[last]),
        float((moves[last] <= multiplier).mean()),
        fitted,
        float((moves[last] <= fitted).mean()),
    )


def _on_grid(values: Floats, places: NDArray[np.int64], count: int) -> Floats:
    found = np.full(count, np.nan)
    found[places] = values
    return found


def _har(hours: Hours, training: int) -> Floats:
    """Return the volatility by HAR (`maxxit.learning.forecasters.Har`), fitted to the hours before row `training`."""
    data = gather([hours], 1)
    places = data.ends - hours.first - 1
    model = Har()
    fitted = model.fit(data.rows.where(places < training - 1))
    return _on_grid(model.forecast(fitted, data.rows).sigma, places, len(hours))


def best(fits: Mapping[str, Sequence[Fit]], among: Callable[[str], bool] = lambda _: True) -> str:
    """Return the method of the least mean QLIKE over all symbols, of those that `among` accepts."""
    found: dict[str, list[float]] = {}
    for of_symbol in fits.values():
        for fit in of_symbol:
            if among(fit.method):
                found.setdefault(fit.method, []).append(fit.qlike)
    return min(found, key=lambda name: (float(np.mean(found[name])), name))
