"""Find when and why a position leaves, on arrays of recorded prices.

The rules are those of the SQL in `positions.exits.sweep`, in whole numbers: prices in units of 10^-decimals USD and
percentages as exact fractions, so that no comparison depends on a rounding. `manage.py backtest check equal` and a
property test hold it to the sweep.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from maxxit.core.errors import Misconfigured
from maxxit.core.terms import SIGN

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 2**63 - 1


@dataclass(eq=False)
class PriceTrack:
    """The prices of one symbol at the moments at which the sweep could use them; arrays of shape (n,)."""

    symbol: str
    decimals: int
    """A unit is 10^-decimals USD."""
    places: NDArray[np.int64]
    """Places of the moments on the tape, ascending."""
    times: NDArray[np.int64]
    """Seconds since 1970 UTC of those moments."""
    units: NDArray[np.int64]
    """Prices."""

    @cached_property
    def place_list(self) -> list[int]:
        """`places` as a list, in which single values are found faster."""
        return [int(place) for place in self.places]

    @cached_property
    def time_list(self) -> list[int]:
        """`times` as a list."""
        return [int(time) for time in self.times]

    def to_units(self, price: Decimal) -> int:
        """Return a price in USD as whole units. Raises `Misconfigured` where it has more decimals."""
        scaled = price.scaleb(self.decimals)
        if scaled != scaled.to_integral_value():
            raise Misconfigured(
                f"{self.symbol}: the price {price} has more than {self.decimals} decimals: give its tick in "
                "config/markets.yaml no more decimals than that"
            )
        return int(scaled)


@dataclass(frozen=True, slots=True)
class Exit:
    """When and why a position leaves."""

    place: int
    """Of the moment on the tape."""
    reason: str


def decimals_of(number: Decimal) -> int:
    """Return how many decimals a number has, without trailing zeros."""
    exponent = number.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def find_exit(track: PriceTrack, side: str, opened: int, levels: dict[str, Any]) -> Exit | None:
    """Return the exit of a position opened at the moment of place `opened`; None where the tape ends before it.

    Args:
        levels: the columns of the position (`positions.exits.levels.Levels.columns`).

    Raises:
        Misconfigured: a price or percentage is too fine for whole numbers.
    """
    sign = SIGN[side]
    first = bisect.bisect_left(track.place_list, opened)
    timed = max(first, bisect.bisect_left(track.time_list, levels["time_exit_at"].timestamp()))
    prices = track.units[first : timed + 1] * sign
    if not len(prices):
        return None
    taken = prices >= track.to_units(levels["take_profit"]) * sign
    stopped = prices <= track.to_units(levels["stop_loss"]) * sign
    hit = taken | stopped
    if levels["trailing_activation"] is not None:
        hit |= _trailed(track, prices, sign, levels["trailing_activation"], levels["trailing_pct"])
    found = int(hit.argmax())
    if hit[found]:
        reason = "take_profit" if taken[found] else "stop_loss" if stopped[found] else "trailing_stop"
        return Exit(track.place_list[first + found], reason)
    return Exit(track.place_list[timed], "time_exit") if timed < len(track.place_list) else None


def _trailed(
    track: PriceTrack, prices: NDArray[np.int64], sign: int, activation: Decimal, pct: Decimal
) -> NDArray[np.bool_]:
    """Return where the price is at or behind the trailing stop. `prices` are negative for a short."""
    behind = np.zeros(len(prices), dtype=bool)
    reached = prices >= track.to_units(activation) * sign
    begins = int(reached.argmax())
    if not reached[begins]:
        return behind
    whole = 10 ** (2 + decimals_of(pct))
    part = whole - sign * int(pct * whole / 100)
    if int(np.abs(prices).max()) * max(whole, part) > LARGEST:
        raise Misconfigured(f"{track.symbol}: a trailing stop of {pct} % is too fine for its prices")
    best = np.maximum.accumulate(prices[begins:])
    behind[begins:] = prices[begins:] * whole <= best * part
    return behind
