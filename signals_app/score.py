"""Scores evidence on a token: side and confidence of a trade, or the reason against one. Pure.

Each weight of an agent belongs to one piece of evidence. Evidence e_i in [-1, 1] supports long (positive) or short; the
side is the sign of the weighted sum. The confidence is the weighted mean of each piece's support for that side,
p_i = (1 + e_i · side) / 2; for posts the support is `social_strength`, and volatility counts against both sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from maxxit.core.terms import SIGN, Side
from maxxit.market.bars import Snapshot
from signals_app.reading.proposal import Proposal

MIN_CONFIDENCE, MAX_CONFIDENCE = Decimal("0.3"), Decimal("0.95")
CALM_ATR_PCT, WILD_ATR_PCT = 1.0, 5.0
"""Average true range in percent of the price: volatility counts from the first on, and in full from the second."""


@dataclass(frozen=True, slots=True)
class Call:
    """A candidate post's call on one token."""

    post: int
    side: str
    """long or short."""
    confidence: Decimal
    """Fraction."""
    impact: Decimal
    """Fraction: the author's impact factor; 0.5 is neutral."""
    author: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A side with its confidence, and the calls and evidence behind it."""

    side: str
    confidence: Decimal
    """Fraction, 0.3 to 0.95, six decimals."""
    calls: tuple[Call, ...]
    """Calls of the same side, the strongest first."""
    evidence: dict[str, float]
    """Feature -> [-1, 1]; positive supports long."""


def _clamp(value: float) -> float:
    return max(-1.0, min(1.0, value))


def market_evidence(market: Snapshot) -> dict[str, float]:
    """Return the evidence of each indicator: feature -> [-1, 1], positive for long; volatility 0 to 1, against both."""
    atr = max(market.atr_pct, 0.01)
    return {
        "rsi": _clamp((50 - market.rsi) / 20),  # 30 is fully long, 70 fully short
        "macd": _clamp(market.macd_histogram / market.close * 100 / atr * 4),
        "bollinger": _clamp(1 - 2 * market.bollinger_b),
        "volume": _clamp(market.volume_z / 3) * (1 if market.momentum_pct >= 0 else -1),
        "moving_average": _clamp((market.fast_average / market.slow_average - 1) * 100 / atr),
        "momentum": _clamp(market.momentum_pct / (5 * atr)),
        "volatility": max(0.0, _clamp((market.atr_pct - CALM_ATR_PCT) / (WILD_ATR_PCT - CALM_ATR_PCT))),
    }


def crowd(calls: Sequence[Call]) -> Decimal:
    """Return the mean direction of the calls in [-1, 1], each weighted by confidence and twice its author's impact."""
    if not calls:
        return Decimal(0)
    lean = sum((SIGN[c.side] * c.confidence * min(2 * c.impact, Decimal(1)) for c in calls), Decimal(0))
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


def score(weights: Mapping[str, int], calls: Sequence[Call], market: Snapshot) -> Scored | None:
    """Return side and confidence for one agent and token; None when the evidence supports neither side.

    `weights` are the agent's, 0 to 100. With a tweet weight calls are required and decide the side together with the
    indicators; with a tweet weight of 0 the indicators decide alone and calls are ignored.
    """
    counted = tuple(calls) if weights["tweet"] else ()
    evidence = market_evidence(market)
    direction = float(crowd(counted)) * weights["tweet"]
    direction += sum(evidence[feature] * weights[feature] for feature in evidence if feature != "volatility")
    if direction == 0 or (weights["tweet"] and not counted):
        return None
    side = Side.LONG if direction > 0 else Side.SHORT
    own = sorted((c for c in counted if c.side == side), key=lambda c: (-c.confidence, -c.impact, c.post))
    support = {feature: (1 + value * SIGN[side]) / 2 for feature, value in evidence.items()}
    support["volatility"] = (1 - evidence["volatility"]) / 2
    support["tweet"] = float(social_strength(counted, side, market.rsi))
    total = sum(weights.values())
    mean = sum(support[feature] * weight for feature, weight in weights.items()) / total
    confidence = max(MIN_CONFIDENCE, min(MAX_CONFIDENCE, Decimal(f"{mean:.6f}")))
    return Scored(side, confidence, tuple(own), {"tweet": float(crowd(counted)), **evidence})


def leverage(confidence: Decimal, maximum: Decimal) -> Decimal:
    """Return the leverage: 5 above 0.8, 3 above 0.6, else 2, at most the venue's `maximum` (checklist A32)."""
    wanted = 5 if confidence > Decimal("0.8") else 3 if confidence > Decimal("0.6") else 2
    return min(Decimal(wanted), maximum)


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


@dataclass(frozen=True, slots=True)
class Proposed:
    """A trade that a signal is made of."""

    scored: Scored
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    leverage: Decimal


@dataclass(frozen=True, slots=True)
class Declined:
    """No trade: the reason, the measured value and the limit."""

    reason: str
    measured: str = ""
    limit: str = ""


def decide(limits: Limits, calls: Sequence[Call], market: Snapshot | None) -> Proposed | Declined:
    """Decide for one agent and token: a trade, or the reason against it."""
    if market is None:
        return Declined("no_market_data")
    scored = score(limits.weights, calls, market)
    if scored is None:
        return Declined("below_threshold", "0", f"{limits.min_confidence:f}")
    if scored.side == Side.SHORT and not limits.shorts:
        return Declined("shorts_not_supported", "short", "long only")
    authors = len({call.author for call in scored.calls})
    if limits.illiquid and authors < 2:
        return Declined("uncorroborated", str(authors), "2")
    if scored.confidence < limits.min_confidence:
        return Declined("below_threshold", f"{scored.confidence:f}", f"{limits.min_confidence:f}")
    used = leverage(scored.confidence, limits.max_leverage)
    stop, take = bound_levels(limits.stop_loss_pct, limits.take_profit_pct, used)
    return Proposed(scored, stop, take, used)


def bound(formula: Proposed, model: Proposal, limits: Limits) -> Proposed | Declined:
    """Hold a model's proposal within the formula's bounds.

    A model may lower the confidence and move the levels within their bounds. It chooses neither token nor side, and
    never raises confidence or leverage.
    """
    confidence = max(MIN_CONFIDENCE, min(formula.scored.confidence, model.confidence))
    if not model.take:
        return Declined("model_disagrees", f"{model.confidence:f}", f"{limits.min_confidence:f}")
    if confidence < limits.min_confidence:
        return Declined("below_threshold", f"{confidence:f}", f"{limits.min_confidence:f}")
    used = min(formula.leverage, max(Decimal(1), model.leverage))
    stop, take = bound_levels(model.stop_loss_pct, model.take_profit_pct, used)
    return Proposed(replace(formula.scored, confidence=confidence), stop, take, used)
