"""Type: the hourly bars and posts of one symbol on a grid without gaps. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HOUR_SECONDS = 3600
LONGEST_FILL = 3
"""Hours without a trade that keep the last close; after a longer gap the values are missing (NaN)."""


@dataclass(frozen=True)
class Hours:
    """One symbol by the hour; every array has shape (n,) and index i is the hour that ends at `end(i)`.

    Everything in row i was known at `end(i)`: a post counts in the hour in which it was stored, not written.
    """

    symbol: str
    first: int
    """Number of the first hour since 1970 (UTC); row i covers hour first + i."""
    close: Floats
    """USD at the end of the hour; NaN where unknown."""
    high: Floats
    low: Floats
    volume: Floats
    """Units of the token."""
    variance: Floats
    """Sum of the squared log returns within the hour: its realised variance."""
    posts: Floats
    """Number of posts that name the token."""
    sides: Floats
    """Sum of their sides: +1 long, −1 short, 0 no call."""

    def __len__(self) -> int:
        return len(self.close)

    def end(self, row: int) -> datetime:
        """Return when row `row` was complete, UTC."""
        return datetime.fromtimestamp((self.first + row + 1) * HOUR_SECONDS, UTC)

    def ends(self) -> NDArray[np.int64]:
        """Return the hour number at which each row was complete: hour 1 is 1970-01-01 01:00."""
        return self.first + 1 + np.arange(len(self), dtype=np.int64)

    def last(self, rows: int) -> "Hours":
        """Return the newest `rows` rows."""
        begin = max(0, len(self) - rows)
        cut = (self.close, self.high, self.low, self.volume, self.variance, self.posts, self.sides)
        return Hours(self.symbol, self.first + begin, *(column[begin:] for column in cut))

    def missing_pct(self) -> float:
        """Return the percentage of hours whose close is not known."""
        return float(np.isnan(self.close).mean()) * 100

    def until(self, rows: int) -> "Hours":
        """Return the first `rows` rows: what was known at the end of the last of them."""
        cut = (self.close, self.high, self.low, self.volume, self.variance, self.posts, self.sides)
        return Hours(self.symbol, self.first, *(column[:rows] for column in cut))


def from_bars(
    symbol: str,
    opened: NDArray[np.int64],
    high: Floats,
    low: Floats,
    close: Floats,
    volume: Floats,
) -> Hours | None:
    """Return the hours of five-minute bars, oldest first; only hours that are over. None without a whole hour.

    Args:
        opened: start of each bar in seconds since 1970; USD prices beside it.
    """
    if len(opened) < 2:
        return None
    hour = opened // HOUR_SECONDS
    first, count = int(hour[0]), int((opened[-1] + 300) // HOUR_SECONDS - hour[0])
    if count < 1:
        return None
    place = (hour - first)[hour - first < count]
    kept = len(place)
    returns = np.diff(np.log(close[:kept]), prepend=np.log(close[0]))
    filled = {name: np.full(count, np.nan) for name in ("close", "high", "low")}
    last = np.flatnonzero(np.append(place[1:] != place[:-1], True))
    filled["close"][place[last]] = close[:kept][last]
    starts = np.flatnonzero(np.append(True, place[1:] != place[:-1]))
    filled["high"][place[starts]] = np.maximum.reduceat(high[:kept], starts)
    filled["low"][place[starts]] = np.minimum.reduceat(low[:kept], starts)
    variance = np.bincount(place, returns**2, count).astype(np.float64)
    traded = np.bincount(place, volume[:kept], count).astype(np.float64)
    closes = _carried(filled["close"])
    missing = np.isnan(closes)
    for name in ("high", "low"):
        filled[name] = np.where(np.isnan(filled[name]), closes, filled[name])
    variance[missing] = np.nan
    nothing = np.zeros(count)
    return Hours(
        symbol, first, closes, filled["high"], filled["low"], traded, variance, nothing, nothing.copy()
    )


def _carried(close: Floats) -> Floats:
    """Return the closes with short gaps filled by the last known close."""
    known = np.where(np.isnan(close), -1, np.arange(len(close)))
    latest = np.maximum.accumulate(known)
    age = np.arange(len(close)) - latest
    usable = (latest >= 0) & (age <= LONGEST_FILL)
    return np.where(usable, close[np.maximum(latest, 0)], np.nan)
