"""Compute technical indicators over closed bars with TA-Lib. Floats: they are evidence, never amounts of money.

Warm-up is explicit: there is no snapshot where any figure is not yet defined (Wilder's RSI and ATR of 14 bars, MACD
12/26/9 needs 34, the slow moving average 50 or as many bars as exist), with the newest closed bar missing, or with more
than one bar in ten missing.
"""

from math import isfinite, sqrt

import numpy as np
import talib
from numpy.typing import NDArray

from maxxit.market.bars import MOST_MISSING, Bars, Snapshot


def snapshot(bars: Bars, *, warm_up: int) -> Snapshot | None:
    """Return the indicators at the last bar; None with fewer than `warm_up` bars, with gaps, or with any NaN.

    Windows are cut to the bars that the last value needs: numpy's call overhead exceeds its arithmetic here.
    """
    if len(bars) < warm_up or bars.last_missing or bars.missing > MOST_MISSING * (len(bars) + bars.missing):
        return None
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    if not isfinite(_sum(high) + _sum(low) + _sum(close) + _sum(volume)):
        return None  # TA-Lib does not report a NaN inside a series
    last, slow = float(close[-1]), close[-50:]
    upper, middle, lower = talib.BBANDS(close[-20:], 20, 2.0, 2.0)
    mean, deviation = _spread(volume[-21:-1])
    logs = np.log(close[-21:])
    figures = (
        last,
        float(talib.RSI(close, 14)[-1]),
        float(talib.MACD(close, 12, 26, 9)[2][-1]),
        _ratio(last - float(lower[-1]), float(upper[-1] - lower[-1]), otherwise=0.5),
        _ratio(float(volume[-1]) - mean, deviation, otherwise=0.0),
        float(middle[-1]),
        _sum(slow) / len(slow),
        (last / float(close[-11]) - 1) * 100,
        float(talib.ATR(high, low, close, 14)[-1]) / last * 100,
        _spread(logs[1:] - logs[:-1])[1] * 100,
        _ewma(close[-41:]) * 100,
    )
    return Snapshot(*figures) if all(map(isfinite, figures)) else None


def _sum(values: NDArray[np.float64]) -> float:
    return float(np.add.reduce(values))


def _spread(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and population standard deviation."""
    mean = _sum(values) / len(values)
    off = values - mean
    return mean, sqrt(float(off.dot(off)) / len(values))


DECAY = 0.94
"""Decay factor of the weights per bar (RiskMetrics, daily)."""
_WEIGHTS: NDArray[np.float64] = np.power(DECAY, np.arange(39, -1, -1), dtype=np.float64)


def _ewma(close: NDArray[np.float64]) -> float:
    """Return the square root of the exponentially weighted mean of squared log returns; the newest weighs most."""
    logs = np.log(close)
    squares = (logs[1:] - logs[:-1]) ** 2
    weights = _WEIGHTS[-len(squares) :]
    return sqrt(float(squares.dot(weights)) / _sum(weights))


def _ratio(part: float, whole: float, *, otherwise: float) -> float:
    return part / whole if whole > 0 else otherwise
