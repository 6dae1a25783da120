"""Typed settings of `config/twin.yaml`."""

from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from maxxit.core.config import BasisPoints, Count, Policy, load
from positions.twin.drift import Rule

Measure = Literal["price", "fee", "latency", "pnl", "missed"]
MEASURES: tuple[Measure, ...] = ("price", "fee", "latency", "pnl", "missed")
UNITS: dict[Measure, str] = {
    "price": "bp", "fee": "bp", "latency": "s", "pnl": "bp", "missed": "of an order",
}  # fmt: skip
"""Measure -> the unit of its values."""
Positive = Annotated[float, Field(gt=0)]


class TwinCosts(Policy):
    """What the twin pays at one venue."""

    slippage_bps: BasisPoints
    """Added to the quote of the decision, against the trader."""
    fee_bps: BasisPoints
    """Of the cash exchanged."""


class Sought(Policy):
    """The drift that shall be found in one measure, in its unit."""

    shift: Positive
    noise: Positive
    least_noise: Positive


class Measures(Policy):
    """One entry for each measure."""

    price: Sought
    fee: Sought
    latency: Sought
    pnl: Sought
    missed: Sought


class TwinPolicy(Policy):
    """The whole file."""

    default: TwinCosts
    venues: dict[str, TwinCosts]
    measures: Measures
    values_per_false_alarm: int = Field(ge=1_000)
    unknown_minutes: Count
    keep_days: int = Field(ge=30)

    def costs(self, venue: str) -> TwinCosts:
        """Return what the twin pays at a venue."""
        return self.venues.get(venue, self.default)

    def rule(self, measure: Measure) -> Rule:
        """Return what is looked for in a measure."""
        sought: Sought = getattr(self.measures, measure)
        return Rule(sought.shift, sought.noise, sought.least_noise, self.values_per_false_alarm)


@cache
def policy() -> TwinPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("twin", TwinPolicy)
