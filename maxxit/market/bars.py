"""Types: closed bars as arrays, and the snapshot that `maxxit.market.indicators` computes from them. No I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing numpy takes 0.1 s: it is imported only where it is used
    import numpy as np
    from numpy.typing import NDArray

MOST_MISSING = 0.1
"""Fraction of bars that may be missing: exchanges omit bars without trades."""


@dataclass(frozen=True)
class Bars:
    """The last closed bars of one symbol, oldest first; each array has shape (n,), prices in USD."""

    symbol: str
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    missing: int = 0
    """Number of missing bars between the first bar and the requested time."""
    last_missing: bool = False
    """Whether the newest bar closed by the requested time is missing."""

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The indicators of one symbol at the close of its last bar."""

    close: float
    """USD."""
    rsi: float
    """Relative strength index over 14 bars, 0 to 100."""
    macd_histogram: float
    """MACD(12, 26, 9) histogram, USD."""
    bollinger_b: float
    """Bollinger %B (20 bars, 2 standard deviations): 0 at the lower band, 1 at the upper band."""
    volume_z: float
    """The last bar's volume in standard deviations from the mean of the 20 before it."""
    fast_average: float
    """Simple moving average over 20 bars, USD."""
    slow_average: float
    """Simple moving average over 50 bars (all bars if there are 40 to 49), USD."""
    momentum_pct: float
    """Rate of change over 10 bars, percent."""
    atr_pct: float
    """Average true range over 14 bars, percent of the close."""
    volatility_pct: float
    """Standard deviation of the log returns of the last 20 bars, percent per bar."""
    ewma_pct: float
    """EWMA volatility over the last 40 returns with decay 0.94 (RiskMetrics), percent per bar."""

    def as_json(self) -> dict[str, float]:
        """Return the figures for the signal's row, rounded to ten significant digits."""
        return {name: float(f"{value:.10g}") for name, value in asdict(self).items()}
