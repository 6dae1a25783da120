"""Scores evidence on a token: side and confidence of a trade, or the reason against one. Pure.

Each weight of an agent belongs to one piece of evidence (`signals_app/evidence/`). Evidence e_i in [-1, 1] supports
long (positive) or short; the side is the sign of the weighted sum. The confidence is the weighted mean of each piece's
support for that side, p_i = (1 + e_i · side) / 2; for posts the support is `social_strength`, and volatility counts
against both sides. Both sums are floats, as the indicators are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from agents.evidence import POSTS
from maxxit.core.terms import Side
from maxxit.market.bars import Snapshot
from signals_app.evidence.base import (
    MAX_CONFIDENCE,
    MIN_CONFIDENCE,
    Call,
    Facts,
    ReturnForecast,
    SocialFigures,
    pieces,
)
from signals_app.reading.proposal import Proposal
from signals_app.reasons import CandidateReason


@dataclass(frozen=True, slots=True)
class Scored:
    """A side with its confidence, and the calls and evidence behind it."""

    side: str
    confidence: Decimal
    """Fraction, 0.3 to 0.95, six decimals."""
    calls: tuple[Call, ...]
    """Calls of the same side, the strongest first."""
    evidence: dict[str, float]
    """Piece -> [-1, 1]; positive supports long; 0 where it has no value."""


def uses_posts(weights: Mapping[str, int]) -> bool:
    """Return whether an agent of these weights trades on posts: without a call it then makes no signal."""
    return weights.get(POSTS, 0) > 0


def score(
    weights: Mapping[str, int],
    calls: Sequence[Call],
    market: Snapshot,
    social: SocialFigures | None = None,
    forecast: ReturnForecast | None = None,
) -> Scored | None:
    """Return side and confidence for one agent and token; None when the evidence supports neither side.

    `weights` are the agent's, 0 to 100 by piece of evidence; a missing one is 0. Posts are one piece among the others:
    without a weight for them the calls are ignored. A required piece (as posts are) that has a weight but no value
    gives None.
    """
    facts = Facts(market, tuple(calls) if uses_posts(weights) else (), social, forecast)
    return weigh(weights, facts, values_of(facts))


def values_of(facts: Facts) -> dict[str, Decimal | None]:
    """Return piece of evidence -> its value in [-1, 1] from these facts; None where it has none."""
    return {piece.name: piece.of(facts) for piece in pieces()}


def weigh(weights: Mapping[str, int], facts: Facts, values: Mapping[str, Decimal | None]) -> Scored | None:
    """Return side and confidence that the weighted evidence gives (`score`).

    Args:
        values: `values_of` the facts, which have no calls where the weights do not use posts.
    """
    evidence: dict[str, float] = {}
    direction, total = 0.0, 0
    for piece in pieces():
        value, weight = values[piece.name], weights.get(piece.name, 0)
        if value is None and piece.required and weight:
            return None
        evidence[piece.name] = float(value or 0)
        total += weight
        if piece.directional:
            direction += evidence[piece.name] * weight
    if direction == 0:
        return None
    side = Side.LONG if direction > 0 else Side.SHORT
    own = sorted((c for c in facts.calls if c.side == side), key=lambda c: (-c.confidence, -c.impact, c.post))
    support = (
        piece.support(facts, evidence[piece.name], side) * weights.get(piece.name, 0) for piece in pieces()
    )
    confidence = max(MIN_CONFIDENCE, min(MAX_CONFIDENCE, Decimal(f"{sum(support) / total:.6f}")))
    return Scored(side, confidence, tuple(own), evidence)


class RiskTier(StrEnum):
    """How risky a trade with leverage is, by how much its token moves."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


LEVERAGE_BOUNDS = {
    RiskTier.LOW: (Decimal(5), Decimal(10)),
    RiskTier.MEDIUM: (Decimal(3), Decimal(5)),
    RiskTier.HIGH: (Decimal(1), Decimal(2)),
}
"""Leverage of each tier, least and most (checklist A31)."""


def risk_tier(volatility_pct: float, illiquid: bool, rules: "RiskRules") -> RiskTier:
    """Return the risk tier of a token: high where it is illiquid or its volatility (percent per bar) is not known."""
    if illiquid or not volatility_pct < float(rules.high_risk_from_pct):  # not a number is not below
        return RiskTier.HIGH
    return RiskTier.LOW if volatility_pct < float(rules.medium_risk_from_pct) else RiskTier.MEDIUM


def leverage(confidence: Decimal, risk: RiskTier, maximum: Decimal) -> Decimal:
    """Return the leverage of a trade, at most the venue's `maximum`.

    5 above a confidence of 0.8, 3 above 0.6, else 2 (checklist A32), held within the bounds of the risk tier (A31).
    """
    wanted = Decimal(5 if confidence > Decimal("0.8") else 3 if confidence > Decimal("0.6") else 2)
    least, most = LEVERAGE_BOUNDS[risk]
    return min(max(least, min(wanted, most)), maximum)


STOP_BOUNDS = {
    "spot": (Decimal(3), Decimal(7)),
    "perps_high": (Decimal(2), Decimal(5)),
    "perps_low": (Decimal(5), Decimal(10)),
}
"""Bounds of a stop in percent of the entry (checklist A31); `perps_high` from leverage 5 on."""


MAX_TARGET_PCT = Decimal(100)
"""A short cannot earn more than 100 %, and the column holds three digits before the point."""


def bound_levels(stop_pct: Decimal, take_pct: Decimal, used_leverage: Decimal) -> tuple[Decimal, Decimal]:
    """Clamp a proposed stop and target (percent) to the bounds of A31; the target is at least twice the stop."""
    kind = "spot" if used_leverage <= 1 else "perps_high" if used_leverage >= 5 else "perps_low"
    low, high = STOP_BOUNDS[kind]
    stop = max(low, min(high, stop_pct))
    return stop, min(max(take_pct, 2 * stop), MAX_TARGET_PCT)


@dataclass(frozen=True, slots=True)
class RiskRules:
    """From which volatility (percent per bar) on a token's risk is medium, and high."""

    medium_risk_from_pct: Decimal
    high_risk_from_pct: Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """The weights, thresholds and levels of an agent and its venue."""

    weights: Mapping[str, int]
    min_confidence: Decimal
    """Fraction."""
    shorts: bool
    max_leverage: Decimal
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    illiquid: bool
    """The token needs calls by two authors."""
    risk: RiskRules


@dataclass(frozen=True, slots=True)
class Proposed:
    """A trade that a signal is made of."""

    scored: Scored
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    leverage: Decimal
    risk: RiskTier


@dataclass(frozen=True, slots=True)
class Declined:
    """No trade: the reason, the measured value and the limit."""

    reason: CandidateReason
    measured: str = ""
    limit: str = ""


def decide(
    limits: Limits,
    calls: Sequence[Call],
    market: Snapshot | None,
    social: SocialFigures | None = None,
    forecast: ReturnForecast | None = None,
) -> Proposed | Declined:
    """Decide for one agent and token: a trade, or the reason against it."""
    if market is None:
        return Declined(CandidateReason.NO_MARKET_DATA)
    return judge(limits, score(limits.weights, calls, market, social, forecast), market)


def judge(limits: Limits, scored: Scored | None, market: Snapshot) -> Proposed | Declined:
    """Decide on what was scored: a trade with its levels and leverage, or the reason against it."""
    if scored is None:
        return Declined(CandidateReason.BELOW_THRESHOLD, "0", f"{limits.min_confidence:f}")
    if scored.side == Side.SHORT and not limits.shorts:
        return Declined(CandidateReason.SHORTS_NOT_SUPPORTED, "short", "long only")
    authors = len({call.author for call in scored.calls})
    if limits.illiquid and authors < 2:
        return Declined(CandidateReason.UNCORROBORATED, str(authors), "2")
    if scored.confidence < limits.min_confidence:
        return Declined(
            CandidateReason.BELOW_THRESHOLD, f"{scored.confidence:f}", f"{limits.min_confidence:f}"
        )
    risk = risk_tier(market.volatility_pct, limits.illiquid, limits.risk)
    used = leverage(scored.confidence, risk, limits.max_leverage)
    stop, take = bound_levels(limits.stop_loss_pct, limits.take_profit_pct, used)
    return Proposed(scored, stop, take, used, risk)


def bound(formula: Proposed, model: Proposal, limits: Limits) -> Proposed | Declined:
    """Hold a model's proposal within the formula's bounds.

    A model may lower confidence and leverage (below the bounds of the risk tier too, which risks less), and move
    the levels within their bounds. It chooses neither token nor side, and raises neither confidence nor leverage.
    """
    confidence = max(MIN_CONFIDENCE, min(formula.scored.confidence, model.confidence))
    if not model.take:
        return Declined(
            CandidateReason.MODEL_DISAGREES, f"{model.confidence:f}", f"{limits.min_confidence:f}"
        )
    if confidence < limits.min_confidence:
        return Declined(CandidateReason.BELOW_THRESHOLD, f"{confidence:f}", f"{limits.min_confidence:f}")
    sure_enough = leverage(confidence, formula.risk, limits.max_leverage)
    used = min(formula.leverage, sure_enough, max(Decimal(1), model.leverage))
    stop, take = bound_levels(model.stop_loss_pct, model.take_profit_pct, used)
    scored = replace(formula.scored, confidence=confidence)
    return Proposed(scored, stop, take, used, formula.risk)
