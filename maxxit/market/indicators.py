"""Technical indicators over closed bars, by TA-Lib. Floats: they are evidence, never money.

Warm-up is explicit: a snapshot is refused where any figure it needs is not yet defined (Wilder's RSI and ATR of
14 bars, MACD 12/26/9 needs 34, the slow moving average 50 or as many bars as there are). Holes are refused too: the
newest closed bar must be there, and of all bars nine in ten.
"""

from math import isfinite, sqrt

import numpy as np
import talib
from numpy.typing import NDArray

from maxxit.market.bars import MOST_MISSING, Bars, Snapshot


def snapshot(bars: Bars, *, warm_up: int) -> Snapshot | None:
    """The indicators at the last bar; None with fewer than `warm_up` bars, with holes, or with a NaN anywhere.

    Windows are cut to what the last figure needs, because numpy's calls cost more than their arithmetic here.
    """
    if len(bars) < warm_up or bars.last_missing or bars.missing > MOST_MISSING * (len(bars) + bars.missing):
        return None
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    if not isfinite(_sum(high) + _sum(low) + _sum(close) + _sum(volume)):
        return None  # TA-Lib lets a NaN in mid-series pass silently
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
    """Mean and standard deviation (of the whole, not of a sample)."""
    mean = _sum(values) / len(values)
    off = values - mean
    return mean, sqrt(float(off.dot(off)) / len(values))


DECAY = 0.94
"""How much of its weight a return keeps with each bar that follows (RiskMetrics, daily; the seeds use it too)."""
_WEIGHTS: NDArray[np.float64] = np.power(DECAY, np.arange(39, -1, -1), dtype=np.float64)


def _ewma(close: NDArray[np.float64]) -> float:
    """Root of the exponentially weighted mean of squared log returns; the newest return weighs most."""
    logs = np.log(close)
    squares = (logs[1:] - logs[:-1]) ** 2
    weights = _WEIGHTS[-len(squares) :]
    return sqrt(float(squares.dot(weights)) / _sum(weights))


def _ratio(part: float, whole: float, *, otherwise: float) -> float:
    return part / whole if whole > 0 else otherwise
