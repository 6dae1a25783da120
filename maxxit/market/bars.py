"""Closed bars as arrays: what indicators are computed from. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
