"""The fees of agents: what a deployment is charged, what an agent may charge, and what its customers agreed to.

A field of the agent that is empty stands for the platform's rule (`fees` in config/risk.yaml). Each deployment is
charged by the present rule of its agent, or by the rule that it agreed to where the present one may charge more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Protocol, cast

import structlog
from django.core.exceptions import ValidationError
from pydantic import Field
from pydantic import ValidationError as Malformed

from agents.fees import (
    FeeRule,
    Flat,
    Occasion,
    Percentage,
    ProfitShare,
    Subscription,
    Tiered,
    misfit,
    not_collected,
    rule_of,
)
from maxxit.core.config import Percent, Policy, Usd, load
from maxxit.core.errors import Misconfigured
from maxxit.core.money import ZERO, plain
from maxxit.market.venues import venue_policy

log = structlog.get_logger(__name__)

FIELDS: Mapping[Occasion, str] = {"trade": "trade_fee", "profit": "profit_fee", "month": "monthly_fee"}
"""Occasion -> the agent's field."""
EXAMPLES: Mapping[Occasion, str] = {
    "trade": "flat amount_usdc=0.1",
    "profit": "profit_share minimum_usdc=0",
    "month": "subscription monthly_usdc=20 trial_days=14",
}
SHARE = "profit_share"
PLATFORMS: Mapping[Occasion, str] = {
    "trade": "the platform's fee (`fees.trade` in config/risk.yaml)",
    "profit": "the platform's fee (`fees.profit` in config/risk.yaml)",
    "month": "no subscription",
}
NOTHING = Flat(model="flat", amount_usdc=ZERO)


class Highest(Policy):
    """What an agent may charge at most."""

    trade_usdc: Usd
    trade_pct: Percent
    profit_usdc: Usd
    profit_pct: Percent
    minimum_usdc: Usd
    monthly_usdc: Usd


class Uncollected(Policy):
    """When staff is alerted of what a deployment owes."""

    limit_usdc: Usd
    max_days: Annotated[int, Field(ge=1, le=365)]
    remind_days: Annotated[int, Field(ge=1, le=365)]


class FeePolicy(Policy):
    """The contents of config/fees.yaml."""

    highest: Highest
    uncollected: Uncollected


@cache
def policy() -> FeePolicy:
    """Return the configured policy. Raises `Misconfigured` naming the missing or wrong key."""
    return load("fees", FeePolicy)


@dataclass(frozen=True, slots=True)
class Terms:
    """The rules by which one deployment is charged."""

    trade: FeeRule
    profit: FeeRule
    month: Subscription | None

    def words(self) -> dict[Occasion, str]:
        """Return each rule as a phrase; without a subscription "none" for the month."""
        return {
            "trade": self.trade.words("trade"),
            "profit": self.profit.words("profit"),
            "month": self.month.words("month") if self.month else "none",
        }


class FeeFields(Protocol):
    """The fields of an agent that say what it charges."""

    @property
    def venue(self) -> str: ...
    @property
    def trade_fee(self) -> str: ...
    @property
    def profit_fee(self) -> str: ...
    @property
    def monthly_fee(self) -> str: ...
    @property
    def profit_share(self) -> Decimal: ...


def fees_of(agent: FeeFields) -> dict[str, str]:
    """Return the agent's fee fields as text, as `Deployment.agreed_fees` stores them."""
    return {name: getattr(agent, name) for name in FIELDS.values()} | {SHARE: plain(agent.profit_share)}


def fees_in_words(fees: FeeFields | Mapping[str, str]) -> dict[str, str]:
    """Return the fees of an agent, or those of `Deployment.agreed_fees`, as phrases by occasion."""
    texts = fees if isinstance(fees, Mapping) else fees_of(fees)
    rate = Decimal(texts[SHARE])
    words = {}
    for occasion, name in FIELDS.items():
        if text := texts.get(name, ""):
            words[occasion] = _stored(occasion, text).with_rate(rate).words(occasion)
        else:
            words[occasion] = PLATFORMS[occasion]
    if not texts.get(FIELDS["profit"]):
        words["profit"] = f"{PLATFORMS['profit']}; where that is a profit share: {plain(rate.scaleb(2))} %"
    return cast(dict[str, str], words)


def terms(own: Mapping[str, str], agreed: Mapping[str, str], *, trade: FeeRule, profit: FeeRule) -> Terms:
    """Return the terms of a deployment.

    Args:
        own: `fees_of` its agent.
        agreed: what its owner agreed to (`Deployment.agreed_fees`), empty where that is the same.
        trade: the platform's rule for a trade in force, for an agent without its own.
        profit: the same for a profit.
    """
    now = _rules(own, trade, profit)
    if not agreed:
        return now
    signed = _rules(agreed, trade, profit)
    month = now.month if now.month and signed.month and now.month.never_above(signed.month) else signed.month
    return Terms(
        now.trade if now.trade.never_above(signed.trade) else signed.trade,
        now.profit if now.profit.never_above(signed.profit) else signed.profit,
        month if now.month else None,
    )


def _rules(fees: Mapping[str, str], trade: FeeRule, profit: FeeRule) -> Terms:
    own_trade, own_profit, own_month = (fees.get(name, "") for name in FIELDS.values())
    month = _stored("month", own_month) if own_month else None
    return Terms(
        _stored("trade", own_trade) if own_trade else trade,
        (_stored("profit", own_profit) if own_profit else profit).with_rate(Decimal(fees[SHARE])),
        month if isinstance(month, Subscription) else None,
    )


def _stored(occasion: Occasion, text: str) -> FeeRule:
    """Return a stored rule; nothing is charged where it cannot be read, so that no exit waits for it."""
    try:
        rule = rule_of(text)
    except Malformed as error:
        log.error("fee_unreadable", occasion=occasion, rule=text, error=str(error))
        return NOTHING
    if occasion not in rule.occasions:
        log.error("fee_unreadable", occasion=occasion, rule=text, error="the model is for another occasion")
        return NOTHING
    return rule


def fee_problem(occasion: Occasion, text: str) -> str:
    """Return what is wrong with an agent's rule in one line and how to correct it; empty for one that is allowed."""
    example = f"; for example `{EXAMPLES[occasion]}`, or leave it empty (docs/fees.md)"
    try:
        rule = rule_of(text)
    except Malformed as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        wrong = first["msg"].removeprefix("Value error, ")
        if first["type"] == "union_tag_invalid":
            wrong = f"{text.split()[0]!r} is no fee model"
        return f"{f'{where}: ' if where else ''}{wrong}{example}"
    if problem := misfit(occasion, rule) or _above(occasion, rule):
        return f"{problem}{example}"
    return ""


def _above(occasion: Occasion, rule: FeeRule) -> str:
    """Return which parameter is above what an agent may charge; empty where none is."""
    most = policy().highest
    given: list[tuple[str, Decimal, Decimal]] = []
    if isinstance(rule, Flat):
        given.append(
            ("amount_usdc", rule.amount_usdc, most.trade_usdc if occasion == "trade" else most.profit_usdc)
        )
    elif isinstance(rule, Subscription):
        given.append(("monthly_usdc", rule.monthly_usdc, most.monthly_usdc))
    elif isinstance(rule, Percentage):
        given.append(("rate_pct", rule.rate_pct, most.trade_pct))
    elif isinstance(rule, Tiered):
        given.append(("tiers", max(rule.tiers.values()), most.profit_pct))
    if isinstance(rule, Percentage | ProfitShare | Tiered):
        given.append(("minimum_usdc", rule.minimum_usdc, most.minimum_usdc))
    return next(
        (
            f"{name} is {plain(value)}, at most {plain(limit)} is allowed (`highest` in config/fees.yaml)"
            for name, value, limit in given
            if value > limit
        ),
        "",
    )


def unreadable_fees(agent: FeeFields) -> bool:
    """Return whether a stored fee of the agent is no rule, so that nothing is charged in its place."""
    texts = ((occasion, getattr(agent, name)) for occasion, name in FIELDS.items())
    return any(text and _stored(occasion, text) is NOTHING for occasion, text in texts)


def check_fees(agent: FeeFields) -> None:
    """Raise Django's ValidationError, by field, for fees that are not allowed or that the agent's venue cannot take."""
    errors: dict[str, str] = {}
    for occasion, name in FIELDS.items():
        text = getattr(agent, name)
        if text and (problem := fee_problem(occasion, text)):
            errors[name] = problem
    most = policy().highest.profit_pct
    if agent.profit_share.scaleb(2) > most:
        errors[SHARE] = (
            f"{plain(agent.profit_share.scaleb(2))} % is above {plain(most)} %, the highest that config/fees.yaml "
            f"allows: enter at most {plain(most.scaleb(-2))}"
        )
    if not errors:
        errors = _not_taken_by_venue(agent)
    if errors:
        raise ValidationError(cast(dict[str, Any], errors))


def _not_taken_by_venue(agent: FeeFields) -> dict[str, str]:
    """Return field -> problem where the venue collects fees itself and does not know the agent's model."""
    try:
        stanza = venue_policy(agent.venue)
    except Misconfigured:  # reported with the venue's own field
        return {}
    if not stanza.uses_safes:  # a Safe's module collects only the fees that it knows
        return {}
    plain_trade, plain_profit = rule_of("flat amount_usdc=0"), rule_of("profit_share minimum_usdc=0")
    problem = not_collected(*_each(_rules(fees_of(agent), plain_trade, plain_profit)))
    if not problem:
        return {}
    field = FIELDS[cast(Occasion, problem.split(":")[0].split()[0])]
    return {
        field: f"{problem}. Choose such a model, leave the field empty, or choose another venue than {agent.venue}."
    }


def _each(of: Terms) -> tuple[FeeRule, FeeRule, FeeRule | None]:
    return of.trade, of.profit, of.month
