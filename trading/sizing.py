"""How large an entry is. Pure. All amounts in USD."""

from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.money import ZERO
from signals_app.size import tier
from trading.policy import Sizing


@dataclass(frozen=True, slots=True)
class Sized:
    """An entry's size and how it came about."""

    notional: Decimal
    """USD, before it is rounded to lots; zero when nothing is available."""
    tier: str
    """high, medium or low."""


def size(rules: Sizing, *, equity: Decimal, exposure: Decimal, confidence: Decimal, posts: int) -> Sized:
    """Percent of what is available, within its bounds.

    `equity` is the account's whole worth, `exposure` the gross notional it already carries; available is the
    difference, so that a leveraged account is never counted twice. The reserve stays untouched.
    """
    name = tier(confidence, posts)
    share = {"high": rules.high_pct, "medium": rules.medium_pct, "low": rules.low_pct}[name]
    available = max(equity - exposure, ZERO)
    spendable = max(available - equity * rules.reserve_pct / 100, ZERO)
    wanted = available * min(share, rules.max_pct) / 100
    return Sized(min(wanted, rules.max_usd, spendable), name)
