"""Types: closed bars as arrays, and the snapshot that `maxxit.market.indicators` computes from them. No I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy costs a tenth of a second: it is loaded where bars are computed with
    import numpy as np
    from numpy.typing import NDArray

MOST_MISSING = 0.1
"""Share of bars that may be missing; an exchange leaves out the bars in which nobody traded."""


@dataclass(frozen=True)
class Bars:
    """The last closed bars of one symbol, oldest first; each array has shape (n,), prices in USD."""

    symbol: str
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    missing: int = 0
    """How many bars between the first one here and the moment asked for do not exist."""
    last_missing: bool = False
    """Whether the newest bar that had closed by then is among those."""

    def __len__(self) -> int:
        return len(self.close)


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
    ewma_pct: float
    """The same over the last 40 returns, each weighing 0.94 of the one after it (RiskMetrics), percent per bar."""

    def as_json(self) -> dict[str, float]:
        """For the signal's row, rounded to ten significant digits so that it reads and compares well."""
        return {name: float(f"{value:.10g}") for name, value in asdict(self).items()}
