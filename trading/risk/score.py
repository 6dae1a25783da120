"""The risk score of an entry: how large, how volatile, how deep in the tail and how unsure it is. Pure functions.

The formulas and weights are those of checklist C37; fractions unless a name says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.money import ZERO
from maxxit.core.terms import SIGN
from trading.risk.policy import RiskScore

ONE, HUNDRED = Decimal(1), Decimal(100)
PER_VOLATILITY, MARGIN = Decimal(5), Decimal("1.25")
"""How much the expected shortfall grows with the volatility, and its safety margin."""


@dataclass(frozen=True, slots=True)
class TailForecast:
    """The return over the horizon as the volatility model that serves forecast it when the signal was made."""

    sigma: Decimal
    """Standard deviation; above 0."""
    q10: Decimal
    """10 % quantile."""
    q90: Decimal
    """90 % quantile."""


@dataclass(frozen=True, slots=True)
class RiskInputs:
    """What the risk score of an entry uses besides its size."""

    side: str
    """long or short."""
    confidence: Decimal
    tail: TailForecast | None = None
    """None without a usable forecast: its parts of the score are left out."""
    correlation: Decimal | None = None
    """The largest with a token that the account holds, -1 to 1; with a holding of the other side its sign is turned.
    None where the account holds no other token, or none is known."""
    uncorrelated: tuple[str, ...] = ()
    """Tokens that the account holds of which no correlation is known."""
    reviewed: bool = False
    """The owner confirmed this entry."""


def cvar95(tail: TailForecast, side: str) -> Decimal:
    """Return the expected shortfall of a position in its worst 5 %, a fraction of its value, at least 0.

    The loss at the 10 % quantile against the position × (1 + 5 × volatility) × 1.25 (checklist C37).
    """
    loss = -tail.q10 if SIGN[side] > 0 else tail.q90
    return max(loss, ZERO) * (ONE + PER_VOLATILITY * tail.sigma) * MARGIN


def parts(inputs: RiskInputs, position_pct: Decimal, rules: RiskScore) -> dict[str, Decimal]:
    """Return part -> its risk, 0 (none) to 1 (at its limit or beyond). Without a forecast two of the four.

    Args:
        position_pct: the entry's notional in percent of the account's equity.
    """
    found = {
        "position": _share(position_pct, rules.max_position_pct),
        "confidence": ONE - inputs.confidence,
    }
    if inputs.tail is not None:
        found["volatility"] = _share(inputs.tail.sigma * HUNDRED, rules.max_volatility_pct)
        found["cvar"] = _share(cvar95(inputs.tail, inputs.side) * HUNDRED, rules.max_cvar_pct)
    return found


def score(found: Mapping[str, Decimal], rules: RiskScore) -> Decimal:
    """Return the weighted mean of the parts, 0 to 1."""
    weights = rules.weights.model_dump()
    total = sum((weights[name] for name in found), ZERO)
    return sum((weights[name] * risk for name, risk in found.items()), ZERO) / total


def _share(measured: Decimal, limit: Decimal) -> Decimal:
    return min(measured / limit, ONE)
