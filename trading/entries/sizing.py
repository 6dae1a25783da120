"""Compute the size of an entry order. Pure functions; all amounts in USD."""

from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.money import ZERO
from signals_app.size import tier
from trading.risk.policy import Sizing


@dataclass(frozen=True, slots=True)
class Sized:
    """An entry's size and the confidence tier that decided it."""

    notional: Decimal
    """USD, before rounding to lots; zero when nothing is available."""
    tier: str
    """high, medium or low."""


def size(rules: Sizing, *, equity: Decimal, exposure: Decimal, confidence: Decimal, posts: int) -> Sized:
    """Return the size of an entry: the tier's percentage of the available balance, within the preset's bounds.

    `equity`: the account's net worth in USD. `exposure`: its gross exposure in USD. Available is equity less exposure,
    so that leverage is not counted twice. `reserve_pct` of the equity is never used. `confidence` is a fraction
    (0 to 1), `posts` the number of posts behind the signal.
    """
    name = tier(confidence, posts)
    share = {"high": rules.high_pct, "medium": rules.medium_pct, "low": rules.low_pct}[name]
    available = max(equity - exposure, ZERO)
    spendable = max(available - equity * rules.reserve_pct / 100, ZERO)
    wanted = available * min(share, rules.max_pct) / 100
    return Sized(min(wanted, rules.max_usd, spendable), name)


def notional(sized: Decimal, leverage: Decimal, max_trade_usd: Decimal) -> Decimal:
    """Return the notional of an entry in USD: `sized` × `leverage`, where that is above 1 at most `max_trade_usd`.

    Otherwise the larger presets with leverage would be blocked by the limit of one trade and never traded.
    """
    return sized if leverage <= 1 else min(sized * leverage, max(max_trade_usd, sized))
