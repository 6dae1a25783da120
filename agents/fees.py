"""Fee rules: how much the platform charges for a trade, and of a profit. Pure. All amounts in USDC, six decimals.

A rule is a model by name with its parameters, as `fees` in config/risk.yaml and the fees of an agent give it. To add a
model, write its class here and add it to `Rule`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, field_validator

from maxxit.core.config import Percent, Policy
from maxxit.core.money import ZERO, plain, usdc

Charge = Annotated[Decimal, Field(ge=0, decimal_places=6)]
"""An amount in USDC, in whole base units."""
Occasion = Literal["trade", "profit", "month"]
"""What a fee is charged for: a trade at its entry, a position that closed with a profit, a month of use."""
EACH: Mapping[Occasion, str] = {"trade": "per trade", "profit": "per profit", "month": "per month"}
AFTER_LOSSES = "after earlier losses are earned back"
MAX_TRADE_FEE_USDC = Decimal("0.2")
"""The highest flat fee per trade, which is also the highest that the Safe module takes."""


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

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase for customers: `0.2 USDC per trade`."""
        raise NotImplementedError

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


def _text(value: Decimal | int | Mapping[Decimal, Decimal]) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{plain(key)}:{plain(one)}" for key, one in value.items())
    return plain(value) if isinstance(value, Decimal) else str(value)


def _at_least(minimum: Decimal) -> str:
    return f", at least {plain(minimum)} USDC" if minimum else ""


class Flat(FeeRule):
    """The same amount each time."""

    occasions = frozenset({"trade", "profit"})
    by_size = False

    model: Literal["flat"]
    amount_usdc: Charge = Decimal("0.50")

    def charge(self, base: Decimal) -> Decimal:
        """Return the amount, whatever `base` is."""
        return usdc(self.amount_usdc)

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase."""
        never = " and never more than the profit" if occasion == "profit" else ""
        after = f", {AFTER_LOSSES}{never}" if occasion == "profit" else ""
        return f"{plain(self.amount_usdc)} USDC {EACH[occasion]}{after}"


class Percentage(FeeRule):
    """A percentage of what was traded."""

    occasions = frozenset({"trade"})

    model: Literal["percentage"]
    rate_pct: Annotated[Percent, Field(le=1)] = Decimal("0.1")
    minimum_usdc: Charge = Decimal("0.01")

    def charge(self, base: Decimal) -> Decimal:
        """Return `rate_pct` of `base`, at least the minimum and at most `base`."""
        return _within(base * self.rate_pct.scaleb(-2), self.minimum_usdc, base)

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase."""
        return f"{plain(self.rate_pct)} % of what is traded{_at_least(self.minimum_usdc)}"


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

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase."""
        first, *others = self.tiers.items()
        steps = [
            f"{plain(first[1])} % of a profit",
            *(f"{plain(rate)} % from {plain(start)} USDC on" for start, rate in others),
        ]
        return f"{', '.join(steps)}{_at_least(self.minimum_usdc)}, {AFTER_LOSSES}"

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

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase."""
        return f"{plain(self.rate_pct)} % of profits{_at_least(self.minimum_usdc)}, {AFTER_LOSSES}"


class Subscription(FeeRule):
    """The same amount for each month that has begun, the first days free. A month counts from the end of the trial."""

    occasions = frozenset({"month"})
    by_size = False

    model: Literal["subscription"]
    monthly_usdc: Charge = Decimal(20)
    trial_days: Annotated[int, Field(ge=0, le=3650)] = 0

    def charge(self, base: Decimal) -> Decimal:
        """Return the amount for `base` months, each month that has begun in full."""
        return usdc(self.monthly_usdc * base.to_integral_value("ROUND_CEILING"))

    def words(self, occasion: Occasion) -> str:
        """Return the rule as a phrase."""
        trial = f", the first {self.trial_days} days free" if self.trial_days else ""
        return f"{plain(self.monthly_usdc)} USDC for each month begun{trial}"

    def never_above(self, other: FeeRule) -> bool:
        """Whether neither the amount is higher nor the trial shorter."""
        return (
            isinstance(other, Subscription)
            and self.monthly_usdc <= other.monthly_usdc
            and self.trial_days >= other.trial_days
        )


def _within(fee: Decimal, minimum: Decimal, base: Decimal) -> Decimal:
    """Return `fee` in USDC, raised to `minimum` and never above `base`."""
    return usdc(min(max(fee, minimum), base))


def parse(rule: Any) -> Any:
    """Return what a line of `FeeRule.text` says as a mapping; anything else as it is.

    Raises ValueError for a line without a model, or with tiers that are no pairs.
    """
    if not isinstance(rule, str):
        return rule
    try:
        model, *given = rule.split()
        values: dict[str, Any] = {"model": model}
        for one in given:
            name, _, value = one.partition("=")
            values[name] = dict(tier.split(":", 1) for tier in value.split(",")) if ":" in value else value
    except ValueError:
        raise ValueError(f"{rule!r} is not a model and its parameters as name=value") from None
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


@lru_cache(maxsize=256)
def rule_of(text: str) -> FeeRule:
    """Return the rule that a line of `FeeRule.text` describes. Raises pydantic's ValidationError for any other text."""
    return RULE.validate_python(text)


def is_dearer(old: str, new: str) -> bool:
    """Whether a change from one rule to the other, as `FeeRule.text` writes them, may charge more to anybody."""
    return not rule_of(new).never_above(rule_of(old))


def misfit(occasion: Occasion, rule: FeeRule) -> str:
    """Return why `rule` is incomplete or cannot be charged on `occasion`; empty where it can."""
    if occasion not in rule.occasions:
        return f"the model {_model(rule)} cannot be charged on a {occasion}"
    optional = {"rate_pct"} if isinstance(rule, ProfitShare) else {"trial_days"}
    if left_out := sorted(set(type(rule).model_fields) - rule.model_fields_set - optional):
        return f"{_model(rule)} needs {', '.join(left_out)}"
    if occasion == "trade" and isinstance(rule, Flat) and rule.amount_usdc > MAX_TRADE_FEE_USDC:
        return f"a flat fee is at most {MAX_TRADE_FEE_USDC} USDC"
    if isinstance(rule, ProfitShare) and rule.rate_pct != SHARE_PCT:
        return "leave rate_pct out, each agent has its own (profit share)"
    return ""


def not_collected(trade: FeeRule, profit: FeeRule, month: FeeRule | None = None) -> str:
    """Return which of an agent's fees a Safe's module cannot collect and why; empty where it collects all."""
    if not isinstance(trade, Flat):
        return f"trade is {_model(trade)}: a Safe's module takes only flat"
    if not isinstance(profit, ProfitShare) or profit.minimum_usdc:
        return "profit: a Safe's module takes only profit_share with minimum_usdc 0"
    if month is not None:
        return f"month is {_model(month)}: a Safe's module takes only fees of trades and profits"
    return ""


def _model(rule: FeeRule) -> str:
    return str(rule.model_dump()["model"])


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
