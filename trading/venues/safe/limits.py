"""Scale the limits that a Safe's owner signs to the capital that the owner names (`config/safes.yaml`)."""

from decimal import ROUND_DOWN, Decimal
from functools import cache
from typing import Annotated

from pydantic import Field, model_validator

from maxxit.core.config import Count, Policy, Seconds, load
from maxxit.core.terms import Preset
from trading.chain.chains import Terms
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


class Pages(Policy):
    """How long pages wait for a chain, and how long they show what was read."""

    read_seconds: Annotated[float, Field(gt=0, le=10)]
    fresh_seconds: Seconds
    retry_seconds: Seconds
    kept_seconds: Seconds


class SafePolicy(Policy):
    """The whole of `config/safes.yaml`."""

    limits: dict[Preset, Shares]
    pages: Pages

    @model_validator(mode="after")
    def _complete(self) -> "SafePolicy":
        if missing := set(Preset) - set(self.limits):
            raise ValueError(f"limits: missing {', '.join(sorted(missing))}")
        return self


@cache
def policy() -> SafePolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("safes", SafePolicy)


def scaled(terms: Terms, shares: Shares, capital: Decimal) -> Terms:
    """Return `terms` with the limits that `capital` USDC allows; none is looser than in `terms`. Pure.

    A limit never falls below what the contract needs to allow one trade of the smallest size.
    """

    def part(percent: Decimal, most: int, least: int) -> int:
        share = int((capital * percent / 100 * USDC_UNIT).to_integral_value(ROUND_DOWN))
        return max(min(share, most), min(least, most))

    max_trade = part(shares.max_trade_pct, terms.max_trade, terms.min_trade)
    loss_budget = part(shares.loss_budget_pct, terms.loss_budget, USDC_UNIT)
    return terms.model_copy(
        update={
            "max_trade": max_trade,
            "daily_notional": part(shares.daily_notional_pct, terms.daily_notional, max_trade),
            "trades_per_day": min(shares.trades_per_day, terms.trades_per_day),
            "loss_budget": loss_budget,
            "total_loss_budget": part(shares.total_loss_budget_pct, terms.total_loss_budget, loss_budget),
        }
    )


def limits_of(terms: Terms, capital: Decimal | None, preset: str) -> Terms:
    """Return the limits that a plan proposes: `terms`, scaled to the capital where one is named."""
    if capital is None:
        return terms
    return scaled(terms, policy().limits[Preset(preset)], capital)
