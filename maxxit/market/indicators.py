"""Technical indicators over closed bars, by TA-Lib. Floats: they are evidence, never money.

Warm-up is explicit: a snapshot is refused where any figure it needs is not yet defined (Wilder's RSI and ATR of
14 bars, MACD 12/26/9 needs 34, the slow moving average 50 or as many bars as there are). Holes are refused too: the
newest closed bar must be there, and of all bars nine in ten.
"""

from dataclasses import asdict, dataclass

import numpy as np
import talib

from maxxit.market.bars import Bars

MOST_MISSING = 0.1
"""Share of bars that may be missing; an exchange leaves out the bars in which nobody traded."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the market of one symbol looked like at the close of its last bar."""

    close: float
    """USD."""
    rsi: float
    """Relative strength index over 14 bars, 0 to 100."""
    macd_histogram: float
    """MACD(12, 26, 9) histogram, USD."""
    bollinger_b: float
    """Place within the Bollinger bands (20 bars, 2 deviations): 0 lower band, 1 upper band."""
    volume_z: float
    """The last bar's volume in standard deviations from the mean of the 20 before it."""
    fast_average: float
    """Simple moving average over 20 bars, USD."""
    slow_average: float
    """Simple moving average over 50 bars (or all there are, from 40), USD."""
    momentum_pct: float
    """Rate of change over 10 bars, percent."""
    atr_pct: float
    """Average true range over 14 bars, percent of the close."""
    volatility_pct: float
    """Standard deviation of the log returns of the last 20 bars, percent per bar."""

    def as_json(self) -> dict[str, float]:
        """For the signal's row, rounded to ten significant digits so that it reads and compares well."""
        return {name: float(f"{value:.10g}") for name, value in asdict(self).items()}


def snapshot(bars: Bars, *, warm_up: int) -> Snapshot | None:
    """The indicators at the last bar; None with fewer than `warm_up` bars, with holes, or with a NaN anywhere."""
    if len(bars) < warm_up or bars.last_missing or bars.missing > MOST_MISSING * (len(bars) + bars.missing):
        return None
    if not all(np.isfinite(column).all() for column in (bars.high, bars.low, bars.close, bars.volume)):
        return None  # TA-Lib lets a NaN in mid-series pass silently
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    upper, _, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    found = Snapshot(
        close=float(close[-1]),
        rsi=float(talib.RSI(close, timeperiod=14)[-1]),
        macd_histogram=float(talib.MACD(close, 12, 26, 9)[2][-1]),
        bollinger_b=_ratio(close[-1] - lower[-1], upper[-1] - lower[-1], otherwise=0.5),
        volume_z=_ratio(volume[-1] - volume[-21:-1].mean(), volume[-21:-1].std(), otherwise=0.0),
        fast_average=float(talib.SMA(close, timeperiod=20)[-1]),
        slow_average=float(talib.SMA(close, timeperiod=min(50, len(close)))[-1]),
        momentum_pct=float(talib.ROC(close, timeperiod=10)[-1]),
        atr_pct=float(talib.ATR(high, low, close, timeperiod=14)[-1] / close[-1] * 100),
        volatility_pct=float(np.diff(np.log(close[-21:])).std() * 100),
    )
    return found if np.isfinite(list(asdict(found).values())).all() else None


def _ratio(part: float, whole: float, *, otherwise: float) -> float:
    return float(part / whole) if whole > 0 else otherwise
