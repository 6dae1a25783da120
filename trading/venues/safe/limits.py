"""Scale the limits that a Safe's owner signs to the capital that the owner names (`config/safes.yaml`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import Field, model_validator

from maxxit.core.config import Count, Policy, Seconds, load
from maxxit.core.terms import Preset
from trading.chain.chains import PerpsTerms, Terms
from trading.venues.safe.contract.module import USDC_UNIT

Share = Annotated[Decimal, Field(ge=Decimal("0.1"), le=1_000)]
"""Percent of the capital. All orders of a day may exceed the capital: it is used again after each close."""


class Shares(Policy):
    """The limits of one preset, in percent of the capital."""

    max_trade_pct: Annotated[Share, Field(le=100)]
    daily_notional_pct: Share
    trades_per_day: Count
    loss_budget_pct: Annotated[Share, Field(le=100)]
    total_loss_budget_pct: Annotated[Share, Field(le=100)]

    @model_validator(mode="after")
    def _ordered(self) -> "Shares":
        if self.daily_notional_pct < self.max_trade_pct:
            raise ValueError("daily_notional_pct must be at least max_trade_pct")
        if self.total_loss_budget_pct < self.loss_budget_pct:
            raise ValueError("total_loss_budget_pct must be at least loss_budget_pct")
        return self


class PerpsShares(Policy):
    """The limits of one preset for perpetual futures, in percent of the capital.

    Sizes follow from collateral and the highest leverage. Collateral of open trades counts as lost until it returns.
    """

    max_collateral_pct: Annotated[Share, Field(le=100)]
    daily_collateral_pct: Share
    trades_per_day: Count
    loss_budget_pct: Annotated[Share, Field(le=100)]
    total_loss_budget_pct: Annotated[Share, Field(le=100)]

    @model_validator(mode="after")
    def _ordered(self) -> "PerpsShares":
        if self.daily_collateral_pct < self.max_collateral_pct:
            raise ValueError("daily_collateral_pct must be at least max_collateral_pct")
        if self.loss_budget_pct <= self.max_collateral_pct:
            raise ValueError(
                "loss_budget_pct must be above max_collateral_pct: a trade reserves collateral and fee"
            )
        if self.total_loss_budget_pct < self.loss_budget_pct:
            raise ValueError("total_loss_budget_pct must be at least loss_budget_pct")
        return self


class Pages(Policy):
    """How long pages wait for a chain, and how long they show what was read."""

    read_seconds: Annotated[float, Field(gt=0, le=10)]
    fresh_seconds: Seconds
    retry_seconds: Seconds
    kept_seconds: Seconds


class SafePolicy(Policy):
    """The whole of `config/safes.yaml`."""

    limits: dict[Preset, Shares]
    perps_limits: dict[Preset, PerpsShares]
    pages: Pages

    @model_validator(mode="after")
    def _complete(self) -> "SafePolicy":
        for name in ("limits", "perps_limits"):
            if missing := set(Preset) - set(getattr(self, name)):
                raise ValueError(f"{name}: missing {', '.join(sorted(missing))}")
        return self


@cache
def policy() -> SafePolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("safes", SafePolicy)


def part(capital: Decimal, percent: Decimal, most: int, least: int) -> int:
    """Return a share of `capital` USDC in base units, within `least` and `most`. Pure."""
    share = int((capital * percent / 100 * USDC_UNIT).to_integral_value(ROUND_DOWN))
    return max(min(share, most), min(least, most))


def scaled(terms: Terms, shares: Shares, capital: Decimal) -> Terms:
    """Return `terms` with the limits that `capital` USDC allows; none is looser than in `terms`. Pure.

    A limit never falls below what the contract needs to allow one trade of the smallest size.
    """
    max_trade = part(capital, shares.max_trade_pct, terms.max_trade, terms.min_trade)
    loss_budget = part(capital, shares.loss_budget_pct, terms.loss_budget, USDC_UNIT)
    return terms.model_copy(
        update={
            "max_trade": max_trade,
            "daily_notional": part(capital, shares.daily_notional_pct, terms.daily_notional, max_trade),
            "trades_per_day": min(shares.trades_per_day, terms.trades_per_day),
            "loss_budget": loss_budget,
            "total_loss_budget": part(
                capital, shares.total_loss_budget_pct, terms.total_loss_budget, loss_budget
            ),
        }
    )


# -- the limits that an owner may choose


class Unit(StrEnum):
    """What a limit is counted in."""

    USDC = "USDC"
    COUNT = ""
    TIMES = "x"
    """Size over collateral."""


SCALES = {Unit.USDC: 6, Unit.COUNT: 0, Unit.TIMES: 4}
"""Unit -> decimal places of the contract's integer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the policy that its owner may choose."""

    name: str
    """For people: in forms, commands and the API."""
    label: str
    title: str
    """Of its field in a form."""
    unit: Unit = Unit.USDC
    help: str = ""

    @property
    def field(self) -> str:
        """Return the contract's name, by which policies and choices hold it."""
        return f"{self.name}_bps" if self.unit == Unit.TIMES else self.name

    @property
    def places(self) -> int:
        """Return how many decimal places a value may have."""
        return SCALES[self.unit]

    def shown(self, value: int) -> Decimal:
        """Return a value of the contract in the limit's unit."""
        return Decimal(value).scaleb(-self.places)

    def stored(self, value: Decimal) -> int:
        """Return a value as the contract has it. Raises ValueError where it has more decimal places."""
        amount = value.scaleb(self.places)
        if amount != amount.to_integral_value():
            raise ValueError(f"{value} has more than {self.places} decimal places")
        return int(amount)

    def text(self, value: int) -> str:
        """Return a value of the contract in words: 10.00 USDC, 5x or 12."""
        if self.unit == Unit.USDC:
            return f"{self.shown(value):,.2f} USDC"
        return f"{self.shown(value).normalize():f}{self.unit}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The limits of a kind of policy that its owner may choose."""

    limits: tuple[Limit, ...]
    at_most: tuple[tuple[str, str], ...]
    """Pairs of which the first may not exceed the second, as the contract demands."""
    least: Callable[[Any], Mapping[str, int]]
    """The loosest terms -> field -> the smallest value; those left out: 1."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.limits)

    @property
    def fields(self) -> frozenset[str]:
        """Return the contract's names."""
        return frozenset(one.field for one in self.limits)

    def __getitem__(self, name: str) -> Limit:
        return next(one for one in self.limits if one.name == name)


SPOT_CHOICE = Choice(
    (
        Limit("max_trade", "one order", "One order, USDC"),
        Limit(
            "daily_notional", "all orders of 24 hours", "All orders of 24 hours, USDC",
            help="The same money may be used again after each close.",
        ),
        Limit("trades_per_day", "trades in 24 hours", "Trades in 24 hours", Unit.COUNT),
        Limit(
            "loss_budget", "losses of 24 hours", "Losses of 24 hours, USDC",
            help="At the prices of the feeds; then no position is opened.",
        ),
        Limit(
            "total_loss_budget", "losses in all", "Losses in all, USDC",
            help="Counted from your signature on.",
        ),
    ),
    (("max_trade", "daily_notional"), ("loss_budget", "total_loss_budget")),
    lambda terms: dict.fromkeys(("max_trade", "daily_notional"), terms.min_trade),
)  # fmt: skip
CHOSEN = SPOT_CHOICE.names
"""Limits of a Safe that trades spot which its owner may choose, with the contract's names."""


def problems_of(terms: Any, chosen: Mapping[str, int], of: Choice = SPOT_CHOICE) -> dict[str, str]:
    """Return name -> what is wrong with the limits that an owner chose; all of `of` are given. Pure.

    Args:
        terms: the loosest limits that the platform plans.
        chosen: field -> the contract's value: USDC in base units, a number of trades, leverage in basis points.
    """
    problems = {
        name: f"no such limit; known: {', '.join(of.names)}" for name in chosen if name not in of.fields
    }
    least = of.least(terms)
    for one in of.limits:
        value, fewest, most = chosen[one.field], least.get(one.field, 1), getattr(terms, one.field)
        if not fewest <= value <= most:
            problems[one.name] = f"enter {one.text(fewest)} to {one.text(most)}, not {one.text(value)}"
    for names in of.at_most:
        lower, upper = of[names[0]], of[names[1]]
        if not problems.keys() & set(names) and chosen[lower.field] > chosen[upper.field]:
            problems[upper.name] = (
                f"{upper.text(chosen[upper.field])} is below the limit of {lower.label}, "
                f"{lower.text(chosen[lower.field])}: enter at least that"
            )
    return problems


T = TypeVar("T", Terms, PerpsTerms)


def with_choice(terms: T, proposed: T, chosen: Mapping[str, int], of: Choice = SPOT_CHOICE) -> T:
    """Return `proposed` with the limits that the owner chose, none looser than in `terms`. Pure."""
    held = {
        name: max(min(value, getattr(terms, name)), 1) for name, value in chosen.items() if name in of.fields
    }
    return proposed.model_copy(update=held)


def limits_of(terms: Terms, capital: Decimal | None, preset: str) -> Terms:
    """Return the limits that a plan proposes: `terms`, scaled to the capital where one is named."""
    if capital is None:
        return terms
    return scaled(terms, policy().limits[Preset(preset)], capital)
