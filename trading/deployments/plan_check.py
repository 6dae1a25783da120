"""Check what a capital and a sizing preset would trade, and name with numbers what cannot work. Pure.

Amounts in USDC, shares and costs in percent. The formulas are those of `trading.entries.sizing` for an account that
holds nothing yet, and of the fee rules (`agents.fees`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from agents.fees import FeeRule
from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.terms import Preset
from trading.entries import sizing
from trading.risk.policy import Exits, RiskPolicy, Sizing

TIERS = {"low": Decimal("0.4"), "medium": Decimal("0.6"), "high": Decimal("0.9")}
"""Tier -> a confidence (fraction) that belongs to it."""
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Costs:
    """What a trade costs."""

    trade: FeeRule
    """The platform's fee for a trade, charged once, at its entry."""
    venue_pct: Decimal = ZERO
    """Fees and slippage of the venue for entry and exit together, percent of the order."""
    venue_minimum: Decimal = ZERO
    """The smallest order that the venue takes."""

    def fee(self, order: Decimal) -> Decimal:
        """Return the platform's fee for an order."""
        return self.trade.charge(order)

    def pct(self, order: Decimal) -> Decimal:
        """Return the costs of entry and exit in percent of the order, which is above zero."""
        return self.fee(order) / order * 100 + self.venue_pct


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """What a plan would trade, and what speaks against it."""

    capital: Decimal
    preset: str
    orders: Mapping[str, Decimal]
    """Confidence tier (low, medium, high) -> size of the first order."""
    fees: Mapping[str, Decimal]
    """Tier -> the platform's fee for it."""
    minimum: Decimal
    """The smallest order that is placed."""
    capital_needed: Decimal | None
    """The least capital with which this preset's orders reach the minimum; None where none does."""
    alternatives: Sequence[str]
    """Presets whose orders all reach the minimum with this capital."""
    problems: Sequence[str]
    """Why it cannot work; empty where it can."""
    notes: Sequence[str]
    """What works only in part."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, object]:
        """Return the check for the API and `--json`; amounts as decimal text."""
        return {
            "ok": self.ok,
            "capital": plain(self.capital),
            "preset": self.preset,
            "orders": {tier: plain(size) for tier, size in self.orders.items()},
            "fees": {tier: plain(fee) for tier, fee in self.fees.items()},
            "minimum": plain(self.minimum),
            "capital_needed": None if self.capital_needed is None else plain(self.capital_needed),
            "alternatives": list(self.alternatives),
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def check_plan(
    capital: Decimal,
    preset: str,
    exit_preset: str,
    policy: RiskPolicy,
    costs: Costs,
    *,
    max_position: Decimal | None = None,
    max_daily: Decimal | None = None,
) -> PlanCheck:
    """Return what `capital` USDC would trade with a sizing and an exit preset, and each reason why it cannot work.

    Args:
        capital: USDC, above zero.
        max_position: the owner's own limit of one position in USD, if there is one.
        max_daily: the same of all entries of a day.
    """
    rules = policy.sizing[Preset(preset)]
    orders, minimum = first_orders(rules, capital), max(rules.min_usd, costs.venue_minimum)
    needed = capital_needed(rules, minimum)
    fits = [
        str(name)
        for name, other in policy.sizing.items()
        if min(first_orders(other, capital).values()) >= max(other.min_usd, costs.venue_minimum)
    ]
    alternatives = [name for name in Preset if str(name) in fits and name != preset]
    problems, notes = [], []
    if min(orders.values()) < minimum:
        problems.append(_too_small(capital, preset, orders, minimum, costs, alternatives, needed))
    elif needed is not None and capital < needed + costs.fee(needed) * 10:
        notes.append(
            f"the smallest orders are {_usd(min(orders.values()))} USDC and the minimum is {_usd(minimum)}: after some "
            f"fees or losses signals of low confidence are no longer traded"
        )
    for text, is_problem in _exits(exit_preset, policy.exits[exit_preset], orders, costs):  # type: ignore[index]
        (problems if is_problem else notes).append(text)
    for name, limit in (("position", max_position), ("day", max_daily)):
        if limit is not None and limit < minimum:
            problems.append(
                f"your limit of {_usd(limit)} USD a {name} is below the minimum order of {_usd(minimum)}: raise it"
            )
        elif limit is not None and limit < max(orders.values()):
            sizes = [size for size in orders.values() if size > limit]
            notes.append(
                f"your limit of {_usd(limit)} USD a {name} blocks orders of {_either(sorted(set(sizes)))} USDC"
            )
    return PlanCheck(
        capital,
        preset,
        orders,
        {tier: costs.fee(size) for tier, size in orders.items()},
        minimum,
        needed,
        [str(name) for name in alternatives],
        problems,
        notes,
    )


def first_orders(rules: Sizing, capital: Decimal) -> dict[str, Decimal]:
    """Return tier -> size in USDC of the first order of an account with `capital` USDC and nothing else."""
    return {
        tier: usdc(sizing.size(rules, equity=capital, exposure=ZERO, confidence=confidence, posts=0).notional)
        for tier, confidence in TIERS.items()
    }


def capital_needed(rules: Sizing, minimum: Decimal) -> Decimal | None:
    """Return the least capital (whole cents) with which every tier's first order reaches `minimum`; None for never."""
    if rules.max_usd < minimum:
        return None
    share = min(rules.high_pct, rules.medium_pct, rules.low_pct, rules.max_pct, 100 - rules.reserve_pct)
    return (minimum * 100 / share).quantize(CENT, ROUND_CEILING) if share > 0 else None


def _too_small(
    capital: Decimal,
    preset: str,
    orders: Mapping[str, Decimal],
    minimum: Decimal,
    costs: Costs,
    alternatives: Sequence[str],
    needed: Decimal | None,
) -> str:
    """Say which orders the preset would place, what the minimum is, and what would work."""
    fixes = [f"choose {alternatives[0]}"] if alternatives else []
    if needed is not None:
        fixes.append(f"{_usd(needed)} USDC" if fixes else f"start with {_usd(needed)} USDC")
    fee = costs.fee(minimum)
    return (
        f"with {_usd(capital)} USDC, {preset} would place orders of {_either(sorted(set(orders.values())))} USDC; the "
        f"minimum is {_usd(minimum)} and the fee {fee:.2f}: {', or '.join(fixes) or 'ask an operator'}"
    )


def _exits(name: str, exits: Exits, orders: Mapping[str, Decimal], costs: Costs) -> list[tuple[str, bool]]:
    """Return what the costs leave of the preset's take profit: (text, whether no order could make a profit)."""
    if exits.take_profit_pct is None:
        return []
    sizes = sorted({size for size in orders.values() if size > 0})
    hopeless = [size for size in sizes if costs.pct(size) >= exits.take_profit_pct]
    if not hopeless:
        return []
    largest = hopeless[-1]
    text = (
        f"the exit preset {name} takes profit at {plain(exits.take_profit_pct)} %, and an order of {_usd(largest)} "
        f"USDC costs {costs.pct(largest):.2f} % (fee {costs.fee(largest):.2f} USDC, venue {plain(costs.venue_pct)} %)"
    )
    every = len(hopeless) == len(sizes)
    fix = (
        ": choose an exit preset with a higher target, or more capital"
        if every
        else ": only larger ones can gain"
    )
    return [(text + fix, every)]


def _usd(amount: Decimal) -> str:
    """Format an amount for people: 1,000, 9.98 or 0.123456."""
    places = 0 if amount == amount.to_integral_value() else 2 if amount == amount.quantize(CENT) else 6
    return f"{amount:,.{places}f}"


def _either(sizes: Sequence[Decimal]) -> str:
    """Format sizes for people: 5, 10 or 20."""
    words = [_usd(size) for size in sizes]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
