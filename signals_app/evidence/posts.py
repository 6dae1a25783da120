"""Evidence of posts: the direction of their calls, and how strongly they support a side. Pure."""

from collections.abc import Sequence
from decimal import Decimal

from agents.evidence import POSTS
from maxxit.core.money import split
from maxxit.core.terms import SIGN, Side
from signals_app.evidence.base import MAX_CONFIDENCE, MIN_CONFIDENCE, Call, Evidence, Facts


class Posts(Evidence):
    name = POSTS
    help = "what the followed accounts say"
    required = True

    def of(self, facts: Facts) -> Decimal | None:
        return crowd(facts.calls) if facts.calls else None

    def support(self, facts: Facts, value: float, side: str) -> float:
        return float(social_strength(facts.calls, side, facts.market.rsi))


def weight(call: Call) -> Decimal:
    """Return how much a call counts, 0 to 1: its confidence × twice its author's impact, at most 1."""
    return call.confidence * min(2 * call.impact, Decimal(1))


def shares(calls: Sequence[Call]) -> dict[int, Decimal]:
    """Return post -> its share in a trade on these calls by `weight`: fractions of six decimals that add up to 1."""
    fractions = split(Decimal(1), [weight(call) for call in calls])
    return dict(zip((call.post for call in calls), fractions, strict=True))


def crowd(calls: Sequence[Call]) -> Decimal:
    """Return the mean direction of the calls in [-1, 1], each by its `weight`."""
    if not calls:
        return Decimal(0)
    lean = sum((SIGN[call.side] * weight(call) for call in calls), Decimal(0))
    return max(Decimal(-1), min(Decimal(1), lean / len(calls)))


def social_strength(calls: Sequence[Call], side: str, rsi: float | None) -> Decimal:
    """Return the support of the calls for `side`, 0.3 to 0.95, 0 without calls (checklist A32).

    Mean confidence × 0.8; × 1.2 up to 0.95 where an author's impact is above 0.7; for a long × 1.1 below RSI 40 and
    × 0.8 above 70.
    """
    own = [call for call in calls if call.side == side]
    if not own:
        return Decimal(0)
    strength = sum((call.confidence for call in own), Decimal(0)) / len(own) * Decimal("0.8")
    if max(call.impact for call in own) > Decimal("0.7"):
        strength = min(strength * Decimal("1.2"), MAX_CONFIDENCE)
    if rsi is not None and side == Side.LONG:
        strength *= Decimal("1.1") if rsi < 40 else Decimal("0.8") if rsi > 70 else Decimal(1)
    return max(MIN_CONFIDENCE, min(MAX_CONFIDENCE, strength))
