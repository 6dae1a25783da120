"""Fee rules: how much the platform charges for a trade, and of a profit. Pure. All amounts in USDC, six decimals.

A rule is a model by name with its parameters, as `fees` in config/risk.yaml gives it. To add a model, write its class
here and add it to `Rule`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, field_validator

from maxxit.core.config import Percent, Policy
from maxxit.core.money import ZERO, plain, usdc

Charge = Annotated[Decimal, Field(ge=0, decimal_places=6)]
"""An amount in USDC, in whole base units."""
Occasion = Literal["trade", "profit", "month"]
"""What a fee is charged for: a trade at its entry, a position that closed with a profit, a month of use."""


class FeeRule(Policy):
    """What every model has."""

    occasions: ClassVar[frozenset[Occasion]]
    """What this model can be charged for."""
    by_size: ClassVar[bool] = True
    """Whether the fee depends on the amount that it is charged on."""

    def charge(self, base: Decimal) -> Decimal:
        """Return the fee in USDC for `base`, zero or more.

        Args:
            base: USDC, zero or more: what was traded, or the profit beyond the loss carry-forward.
        """
        raise NotImplementedError

    def with_rate(self, rate: Decimal) -> "FeeRule":
        """Return the rule with an agent's own rate, a fraction, where the model has one; else the rule itself."""
        return self

    def never_above(self, other: "FeeRule") -> bool:
        """Whether this is the same model as `other` and no parameter is higher."""
        mine, theirs = self.model_dump(), other.model_dump()
        return type(self) is type(other) and all(
            value == theirs[name] if isinstance(value, str) else value <= theirs[name]
            for name, value in mine.items()
        )

    def text(self) -> str:
        """Return the rule in one line, as `parse` reads it: `flat amount_usdc=0.2`."""
        given = self.model_dump(exclude_unset=True)
        model = given.pop("model")
        return " ".join([model, *(f"{name}={_text(value)}" for name, value in sorted(given.items()))])


def _text(value: Decimal | Mapping[Decimal, Decimal]) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{plain(key)}:{plain(one)}" for key, one in value.items())
    return plain(value)


class Flat(FeeRule):
    """The same amount each time."""

    occasions = frozenset({"trade", "profit"})
    by_size = False

    model: Literal["flat"]
    amount_usdc: Charge = Decimal("0.50")

    def charge(self, base: Decimal) -> Decimal:
        """Return the amount, whatever `base` is."""
        return usdc(self.amount_usdc)


class Percentage(FeeRule):
    """A percentage of what was traded."""

    occasions = frozenset({"trade"})

    model: Literal["percentage"]
    rate_pct: Annotated[Percent, Field(le=1)] = Decimal("0.1")
    minimum_usdc: Charge = Decimal("0.01")

    def charge(self, base: Decimal) -> Decimal:
        """Return `rate_pct` of `base`, at least the minimum and at most `base`."""
        return _within(base * self.rate_pct.scaleb(-2), self.minimum_usdc, base)


class Tiered(FeeRule):
    """A percentage of a profit that depends on how high the profit is. The rate of its tier holds for all of it."""

    occasions = frozenset({"profit"})

    model: Literal["tiered"]
    tiers: dict[Annotated[Decimal, Field(ge=0, decimal_places=6)], Percent] = {
        Decimal(0): Decimal(5),
        Decimal(100): Decimal(10),
        Decimal("500.000001"): Decimal(15),
    }
    """From this many USDC -> percent."""
    minimum_usdc: Charge = Decimal("0.01")

    @field_validator("tiers")
    @classmethod
    def _rising(cls, tiers: dict[Decimal, Decimal]) -> dict[Decimal, Decimal]:
        if list(tiers) != sorted(tiers) or ZERO not in tiers:
            raise ValueError("the first tier begins at 0 and each later one above the one before")
        return tiers

    def charge(self, base: Decimal) -> Decimal:
        """Return the rate of the tier that `base` is in, of all of it; at least the minimum and at most `base`."""
        rate = next(rate for start, rate in reversed(self.tiers.items()) if usdc(base) >= start)
        return _within(base * rate.scaleb(-2), self.minimum_usdc, base)

    def never_above(self, other: FeeRule) -> bool:
        """Whether the tiers begin at the same amounts, and neither a rate nor the minimum is higher."""
        return (
            isinstance(other, Tiered)
            and list(self.tiers) == list(other.tiers)
            and all(rate <= other.tiers[start] for start, rate in self.tiers.items())
            and self.minimum_usdc <= other.minimum_usdc
        )


SHARE_PCT = Decimal(10)
"""The profit share where no agent has its own."""


class ProfitShare(FeeRule):
    """A percentage of a profit, each agent's own."""

    occasions = frozenset({"profit"})

    model: Literal["profit_share"]
    rate_pct: Annotated[Decimal, Field(ge=0, le=100)] = SHARE_PCT
    minimum_usdc: Charge = Decimal("0.01")

    def charge(self, base: Decimal) -> Decimal:
        """Return `rate_pct` of `base`, at least the minimum and at most `base`."""
        return _within(base * self.rate_pct.scaleb(-2), self.minimum_usdc, base)

    def with_rate(self, rate: Decimal) -> "ProfitShare":
        """Return the rule with `rate`, a fraction, in place of its own."""
        return self.model_copy(update={"rate_pct": rate.scaleb(2)})


class Subscription(FeeRule):
    """The same amount each month. Nothing bills months yet."""

    occasions = frozenset({"month"})
    by_size = False

    model: Literal["subscription"]
    monthly_usdc: Charge = Decimal(20)

    def charge(self, base: Decimal) -> Decimal:
        """Return the amount for `base` months, each month that has begun in full."""
        return usdc(self.monthly_usdc * base.to_integral_value("ROUND_CEILING"))


def _within(fee: Decimal, minimum: Decimal, base: Decimal) -> Decimal:
    """Return `fee` in USDC, raised to `minimum` and never above `base`."""
    return usdc(min(max(fee, minimum), base))


def parse(rule: Any) -> Any:
    """Return what a line of `FeeRule.text` says as a mapping; anything else as it is."""
    if not isinstance(rule, str):
        return rule
    model, *given = rule.split()
    values: dict[str, Any] = {"model": model}
    for one in given:
        name, _, value = one.partition("=")
        values[name] = dict(tier.split(":", 1) for tier in value.split(",")) if ":" in value else value
    return values


Rule = Annotated[
    Annotated[
        Flat | Percentage | Tiered | ProfitShare | Subscription,
        Field(discriminator="model"),
    ],
    BeforeValidator(parse),
]
"""Every model that a configuration may name."""
RULE: TypeAdapter[FeeRule] = TypeAdapter(Rule)


def is_dearer(old: str, new: str) -> bool:
    """Whether a change from one rule to the other, as `FeeRule.text` writes them, may charge more to anybody."""
    return not RULE.validate_python(new).never_above(RULE.validate_python(old))


@dataclass(frozen=True, slots=True)
class Shared:
    """The profit share of one closed position."""

    share: Decimal
    """Due now, zero or positive."""
    carried_loss: Decimal
    """Left to earn back before the next share, zero or positive."""


def share_profit(rule: FeeRule, earned: Decimal, carried_loss: Decimal) -> Shared:
    """Charge a position that closed, after the loss carry-forward of its deployment.

    With a profit share and no minimum, the shares of any sequence sum to the rate × the highest the cumulated PnL has
    stood (a high-water mark), up to the rounding of each share to USDC's six decimals.

    Args:
        rule: a model that can be charged on profit.
        earned: USDC after venue fees and platform fee, negative for a loss.
        carried_loss: USDC that earlier losses have left to earn back, zero or positive.

    Returns:
        The share, at most the profit beyond the carried loss, and the loss that is carried on. A loser pays nothing.
    """
    if earned <= 0:
        return Shared(ZERO, carried_loss - earned)
    above = max(earned - carried_loss, ZERO)
    return Shared(min(rule.charge(above), usdc(above)), max(carried_loss - earned, ZERO))
