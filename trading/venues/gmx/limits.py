"""Scale the limits of perpetual futures that a Safe's owner signs to the capital that the owner names."""

from decimal import Decimal

from maxxit.core.terms import BPS, Preset
from trading.chain.chains import PerpsTerms
from trading.venues.safe.contract.module import USDC_UNIT
from trading.venues.safe.limits import Choice, Limit, PerpsShares, Unit, part, policy

MOST_FEE = 200_000
"""USDC base units: the highest fee of a trade that the contract accepts."""


def limits_of(terms: PerpsTerms, capital: Decimal | None, preset: str) -> PerpsTerms:
    """Return the limits that a plan proposes: `terms`, scaled to the capital where one is named."""
    if capital is None:
        return terms
    return scaled(terms, policy().perps_limits[Preset(preset)], capital)


def scaled(terms: PerpsTerms, shares: PerpsShares, capital: Decimal) -> PerpsTerms:
    """Return `terms` with the limits that `capital` USDC allows; none is looser than in `terms`. Pure.

    A limit never falls below what the contract needs to allow one trade of the smallest collateral.
    """
    collateral = part(capital, shares.max_collateral_pct, terms.max_collateral, terms.min_collateral)
    daily = part(capital, shares.daily_collateral_pct, terms.daily_collateral, collateral)
    budget = part(capital, shares.loss_budget_pct, terms.loss_budget, terms.min_collateral + USDC_UNIT)
    notional = min(_size(collateral, terms), terms.max_notional)
    return terms.model_copy(
        update={
            "max_collateral": collateral,
            "max_notional": notional,
            "daily_collateral": daily,
            "daily_notional": max(min(_size(daily, terms), terms.daily_notional), notional),
            "trades_per_day": min(shares.trades_per_day, terms.trades_per_day),
            "loss_budget": budget,
            "total_loss_budget": part(capital, shares.total_loss_budget_pct, terms.total_loss_budget, budget),
        }
    )


def _size(collateral: int, terms: PerpsTerms) -> int:
    """Return the size in USDC base units that collateral allows at the highest leverage."""
    return collateral * terms.max_leverage_bps // BPS


def _least(terms: PerpsTerms) -> dict[str, int]:
    """Return the smallest limits with which one trade of the smallest collateral is possible."""
    smallest = terms.min_collateral
    sizes = ("max_collateral", "daily_collateral", "max_notional", "daily_notional")
    budgets = ("loss_budget", "total_loss_budget")
    return (
        dict.fromkeys(sizes, smallest)
        | dict.fromkeys(budgets, smallest + MOST_FEE)
        | {"max_leverage_bps": BPS}
    )


CHOICE = Choice(
    (
        Limit("max_collateral", "collateral of one trade", "Collateral of one trade, USDC"),
        Limit(
            "max_leverage", "leverage", "Leverage, size over collateral", Unit.TIMES,
            help="A signal with a higher leverage is refused.",
        ),
        Limit("max_notional", "size of one trade", "Size of one trade, USDC", help="Collateral times leverage."),
        Limit("daily_collateral", "collateral of 24 hours", "Collateral of 24 hours, USDC"),
        Limit("daily_notional", "sizes of 24 hours", "Sizes of 24 hours, USDC"),
        Limit("trades_per_day", "trades in 24 hours", "Trades in 24 hours", Unit.COUNT),
        Limit(
            "loss_budget", "losses of 24 hours", "Losses of 24 hours, USDC",
            help="The collateral of open trades counts as lost until it returns.",
        ),
        Limit(
            "total_loss_budget", "losses in all", "Losses in all, USDC", help="Counted from your signature on.",
        ),
    ),
    (
        ("max_collateral", "daily_collateral"),
        ("max_notional", "daily_notional"),
        ("loss_budget", "total_loss_budget"),
    ),
    _least,
)  # fmt: skip
