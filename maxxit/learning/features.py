"""The feature table: one row for each symbol and hour, from what was known at its end. Pure.

Each value depends on a window of fixed length that ends with its row, so that it is the same number whether the table
begins a week or a year earlier (a test compares both).
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from maxxit.learning.hours import Floats, Hours

WARM_UP = 169
"""Hours before the first row that has every feature."""
RETURN_SPANS = (1, 2, 3, 6, 12, 24, 72, 168)
VOLATILITY_SPANS = (1, 3, 6, 12, 24, 72, 168)
DAY, WEEK = 24, 168
EWMA_DECAY = 0.94
LEAST_VARIANCE = 1e-10
"""Realised variance of an hour without a trade, so that its logarithm exists (0.001 % a hour)."""


def _last(values: Floats, span: int, what: Callable[..., Floats]) -> Floats:
    """Apply `what` to each window of `span` values that ends with its row; NaN before the first whole window."""
    result = np.full(len(values), np.nan)
    if len(values) >= span:
        result[span - 1 :] = what(sliding_window_view(values, span), axis=1)
    return result


def _ago(values: Floats, hours: int) -> Floats:
    result = np.full(len(values), np.nan)
    result[hours:] = values[: len(values) - hours]
    return result


def realised(hours: Hours, span: int) -> Floats:
    """Return the volatility of the last `span` hours, as the root of their mean hourly variance (fraction an hour)."""
    return np.sqrt(np.maximum(_last(hours.variance, span, np.mean), LEAST_VARIANCE))


def ewma(hours: Hours) -> Floats:
    """Return the EWMA volatility of the last week's hourly returns, decay 0.94 (fraction an hour)."""
    returns = np.log(hours.close) - np.log(_ago(hours.close, 1))
    weights = EWMA_DECAY ** np.arange(WEEK - 1, -1, -1)
    result = np.full(len(hours), np.nan)
    if len(hours) > WEEK:
        windows = sliding_window_view(returns[1:] ** 2, WEEK)
        result[WEEK:] = (windows * weights).sum(axis=1) / weights.sum()
    volatility: Floats = np.sqrt(np.maximum(result, LEAST_VARIANCE))
    return volatility


def table(hours: Hours) -> dict[str, Floats]:
    """Return the features of every hour: name -> one value a row; NaN until `WARM_UP` hours are known."""
    close, week = hours.close, realised(hours, WEEK)
    logs, hour_of_week = np.log(close), (hours.ends() + 72) % WEEK
    columns: dict[str, Floats] = {}
    for span in RETURN_SPANS:
        columns[f"return_{span}h"] = (logs - _ago(logs, span)) / (week * np.sqrt(span))
    for span in VOLATILITY_SPANS:
        columns[f"log_volatility_{span}h"] = np.log(realised(hours, span))
    columns["log_volatility_1d_ago"] = _ago(columns["log_volatility_1h"], DAY - 1)
    columns["volatility_trend"] = columns["log_volatility_6h"] - columns["log_volatility_168h"]
    steps = logs - _ago(logs, 1)
    down, up = np.where(steps < 0, steps**2, 0), np.where(steps > 0, steps**2, 0)
    columns["downside_24h"] = _ratio(_last(down, DAY, np.sum), _last(down + up, DAY, np.sum), 0.5)
    spread = np.log(hours.high) - np.log(hours.low)
    columns["log_range_24h"] = np.log(np.maximum(_last(spread, DAY, np.mean), 1e-6))
    for span in (DAY, WEEK):
        top, bottom = _last(hours.high, span, np.max), _last(hours.low, span, np.min)
        columns[f"place_in_range_{span}h"] = _ratio(close - bottom, top - bottom, 0.5)
        mean = _last(close, span, np.mean)
        columns[f"distance_from_mean_{span}h"] = np.log(close / mean) / (week * np.sqrt(span))
    columns["rsi_14h"] = _rsi(steps)
    traded = np.log1p(hours.volume)
    deviation = _last(traded, WEEK, np.std)
    for span in (1, 6, DAY):
        away = _last(traded, span, np.mean) - _last(traded, WEEK, np.mean)
        columns[f"volume_z_{span}h"] = _ratio(away, deviation, 0.0)
    for name, period in (("day", DAY), ("week", WEEK)):
        angle = 2 * np.pi * (hour_of_week % period) / period
        columns[f"sin_{name}"], columns[f"cos_{name}"] = np.sin(angle), np.cos(angle)
    for span in (1, 6, DAY):
        posted, sided = _last(hours.posts, span, np.sum), _last(hours.sides, span, np.sum)
        columns[f"log_posts_{span}h"] = np.log1p(posted)
        columns[f"sentiment_{span}h"] = _ratio(sided, posted, 0.0)
    valid = np.isfinite(week) & np.isfinite(_last(close, WARM_UP, np.mean))
    return {name: np.where(valid, column, np.nan) for name, column in columns.items()}


def _ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), otherwise)


def _rsi(steps: Floats) -> Floats:
    """Return the relative strength index of 14 hours with plain means, as a fraction."""
    gains = _last(np.maximum(steps, 0), 14, np.mean)
    losses = _last(np.maximum(-steps, 0), 14, np.mean)
    return _ratio(gains, gains + losses, 0.5)


def target(hours: Hours, horizon: int) -> tuple[Floats, Floats]:
    """Return what comes after each row: the log return of the next `horizon` hours, and their realised volatility.

    The volatility is the root of the mean hourly variance. NaN where the horizon ends after the data. These are
    outcomes: no feature is made of them.
    """
    logs = np.log(hours.close)
    returns, volatility = np.full(len(hours), np.nan), np.full(len(hours), np.nan)
    if len(hours) > horizon:
        returns[:-horizon] = logs[horizon:] - logs[:-horizon]
        windows = sliding_window_view(hours.variance[1:], horizon)
        volatility[: len(windows)] = np.sqrt(np.maximum(windows.mean(axis=1), LEAST_VARIANCE))
    return returns, volatility
