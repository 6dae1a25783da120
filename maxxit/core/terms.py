"""Trading terms that every layer shares: sides, purposes, kill levels, presets, basis points."""

from enum import StrEnum
from typing import Literal

BPS = 10_000
"""Basis points in one whole: 100 bps are 1 %."""


class Side(StrEnum):
    """The direction of a signal or a position."""

    LONG = "long"
    SHORT = "short"


SIGN: dict[str, Literal[1, -1]] = {Side.LONG: 1, Side.SHORT: -1}
"""Side -> +1 or -1: the direction in which the price must move for a profit."""


class OrderSide(StrEnum):
    """What an order does with the token."""

    BUY = "buy"
    SELL = "sell"


class Purpose(StrEnum):
    """What an order does with the position."""

    OPEN = "open"
    CLOSE = "close"


class KillLevel(StrEnum):
    """What a pulled kill switch stops, from the mildest to the strictest; exits go on at every level."""

    NO_ENTRIES = "no_entries"
    REDUCE_ONLY = "reduce_only"
    FLATTEN = "flatten"


KILL_LEVELS = tuple(KillLevel)
"""From the mildest to the strictest."""


class Preset(StrEnum):
    """The named sets of sizing rules of `config/risk.yaml`."""

    CONSERVATIVE = "conservative"
    MODERATE = "moderate"
    AGGRESSIVE = "aggressive"


class ExitPreset(StrEnum):
    """The named sets of exit rules.

    SIGNAL keeps the levels of the signal; so does VOLATILITY, whose signals take their stop from a volatility forecast.
    """

    SIGNAL = "signal"
    CONSERVATIVE = "conservative"
    MODERATE = "moderate"
    AGGRESSIVE = "aggressive"
    VOLATILITY = "volatility"


def choices(words: type[StrEnum]) -> list[tuple[str, str]]:
    """(value, label) of each word, as Django's `choices`: no_entries is shown as "No entries"."""
    return [(word.value, word.value.replace("_", " ").capitalize()) for word in words]
