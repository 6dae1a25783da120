"""From what is known of a token to a side and a confidence, or to the reason for none. Pure.

Each of the eight weights of an agent belongs to one piece of evidence. Evidence e_i in [-1, 1] speaks for long
(positive) or short; the side is the sign of the weighted sum. The confidence is the weighted mean of how far
each piece supports that side, p_i = (1 + e_i · side) / 2, where the posts' share is their own strength
(`social_strength`) and volatility speaks against either side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from maxxit.core.terms import SIGN, Side
from maxxit.market.bars import Snapshot
from signals_app.reading.proposal import Proposal

MIN_CONFIDENCE, MAX_CONFIDENCE = Decimal("0.3"), Decimal("0.95")
CALM_ATR_PCT, WILD_ATR_PCT = 1.0, 5.0
"""Average true range in percent of the price: up to the first volatility is no argument, from the second the full."""


@dataclass(frozen=True, slots=True)
class Call:
    """One candidate post's call on one token."""

    post: int
    side: str
    """long or short."""
    confidence: Decimal
    """Fraction."""
    impact: Decimal
    """Fraction: the author's record; 0.5 is unknown."""
    author: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A side with its confidence, and everything that led there."""

    side: str
    confidence: Decimal
    """Fraction, 0.3 to 0.95, six decimals."""
    calls: tuple[Call, ...]
    """Those that share the side, the strongest first."""
    evidence: dict[str, float]
    """Feature -> [-1, 1]; positive speaks for long."""


def _clamp(value: float) -> float:
    return max(-1.0, min(1.0, value))


def market_evidence(market: Snapshot) -> dict[str, float]:
    """What each indicator says: feature -> [-1, 1], positive for long. Volatility is 0 to 1 against any trade."""
    atr = max(market.atr_pct, 0.01)
    return {
        "rsi": _clamp((50 - market.rsi) / 20),  # 30 says fully long, 70 fully short
        "macd": _clamp(market.macd_histogram / market.close * 100 / atr * 4),
        "bollinger": _clamp(1 - 2 * market.bollinger_b),
        "volume": _clamp(market.volume_z / 3) * (1 if market.momentum_pct >= 0 else -1),
        "moving_average": _clamp((market.fast_average / market.slow_average - 1) * 100 / atr),
        "momentum": _clamp(market.momentum_pct / (5 * atr)),
        "volatility": max(0.0, _clamp((market.atr_pct - CALM_ATR_PCT) / (WILD_ATR_PCT - CALM_ATR_PCT))),
    }


def crowd(calls: Sequence[Call]) -> Decimal:
    """Which way the calls lean: [-1, 1], each weighed by confidence and by twice its author's impact."""
    if not calls:
        return Decimal(0)
    lean = sum((SIGN[c.side] * c.confidence * min(2 * c.impact, Decimal(1)) for c in calls), Decimal(0))
    return max(Decimal(-1), min(Decimal(1), lean / len(calls)))


def social_strength(calls: Sequence[Call], side: str, rsi: float | None) -> Decimal:
    """How strongly the calls of `side` support it (checklist A32): mean confidence × 0.8; × 1.2 up to 0.95 where an
    author's impact is above 0.7; for a long × 1.1 below RSI 40 and × 0.8 above 70; within 0.3 to 0.95."""
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
    """The side and confidence for one agent and token; None when nothing leans either way.

    `weights` are the agent's eight, 0 to 100. With a tweet weight the calls are needed and decide the side
    together with the indicators; with a tweet weight of 0 the indicators decide alone and calls are ignored.
    """
    heard = tuple(calls) if weights["tweet"] else ()
    evidence = market_evidence(market)
    lean = float(crowd(heard)) * weights["tweet"]
    lean += sum(evidence[feature] * weights[feature] for feature in evidence if feature != "volatility")
    if lean == 0 or (weights["tweet"] and not heard):
        return None
    side = Side.LONG if lean > 0 else Side.SHORT
    own = sorted((c for c in heard if c.side == side), key=lambda c: (-c.confidence, -c.impact, c.post))
    support = {feature: (1 + value * SIGN[side]) / 2 for feature, value in evidence.items()}
    support["volatility"] = (1 - evidence["volatility"]) / 2
    support["tweet"] = float(social_strength(heard, side, market.rsi))
    total = sum(weights.values())
    mean = sum(support[feature] * weight for feature, weight in weights.items()) / total
    confidence = max(MIN_CONFIDENCE, min(MAX_CONFIDENCE, Decimal(f"{mean:.6f}")))
    return Scored(side, confidence, tuple(own), {"tweet": float(crowd(heard)), **evidence})


def leverage(confidence: Decimal, maximum: Decimal) -> Decimal:
    """Checklist A32: 5 above 0.8, 3 above 0.6, otherwise 2, and never more than the venue's `maximum`."""
    wanted = 5 if confidence > Decimal("0.8") else 3 if confidence > Decimal("0.6") else 2
    return min(Decimal(wanted), maximum)


STOP_BOUNDS = {
    "spot": (Decimal(3), Decimal(7)),
    "perps_high": (Decimal(2), Decimal(5)),
    "perps_low": (Decimal(5), Decimal(10)),
}
"""Percent: what a stop may be (checklist A31); perps from leverage 5 up count as high."""


MAX_TARGET_PCT = Decimal(100)
"""A short cannot earn more, and a signal's row holds no more than three digits before the point."""


def bound_levels(stop_pct: Decimal, take_pct: Decimal, used_leverage: Decimal) -> tuple[Decimal, Decimal]:
    """A proposed stop and target in percent, held within A31's bounds; the target is at least twice the stop."""
    kind = "spot" if used_leverage <= 1 else "perps_high" if used_leverage >= 5 else "perps_low"
    low, high = STOP_BOUNDS[kind]
    stop = max(low, min(high, stop_pct))
    return stop, min(max(take_pct, 2 * stop), MAX_TARGET_PCT)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an agent and its venue allow."""

    weights: Mapping[str, int]
    min_confidence: Decimal
    """Fraction."""
    shorts: bool
    max_leverage: Decimal
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    illiquid: bool
    """The token needs calls of two authors."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """A trade worth signalling."""

    scored: Scored
    stop_loss_pct: Decimal
    take_profit_pct: Decimal
    leverage: Decimal


@dataclass(frozen=True, slots=True)
class Declined:
    """No trade, and why: the reason with the measured value and the limit it was held against."""

    reason: str
    measured: str = ""
    limit: str = ""


def decide(rules: Rules, calls: Sequence[Call], market: Snapshot | None) -> Proposed | Declined:
    """One agent's verdict on one token."""
    if market is None:
        return Declined("no_market_data")
    scored = score(rules.weights, calls, market)
    if scored is None:
        return Declined("below_threshold", "0", f"{rules.min_confidence:f}")
    if scored.side == Side.SHORT and not rules.shorts:
        return Declined("shorts_not_supported", "short", "long only")
    authors = len({call.author for call in scored.calls})
    if rules.illiquid and authors < 2:
        return Declined("uncorroborated", str(authors), "2")
    if scored.confidence < rules.min_confidence:
        return Declined("below_threshold", f"{scored.confidence:f}", f"{rules.min_confidence:f}")
    used = leverage(scored.confidence, rules.max_leverage)
    stop, take = bound_levels(rules.stop_loss_pct, rules.take_profit_pct, used)
    return Proposed(scored, stop, take, used)


def bound(formula: Proposed, model: Proposal, rules: Rules) -> Proposed | Declined:
    """What is left of a model's proposal: it may lower the confidence and move the levels within their bounds; it
    chooses neither token nor side, and never raises confidence or leverage above the formula's."""
    confidence = max(MIN_CONFIDENCE, min(formula.scored.confidence, model.confidence))
    if not model.take:
        return Declined("model_disagrees", f"{model.confidence:f}", f"{rules.min_confidence:f}")
    if confidence < rules.min_confidence:
        return Declined("below_threshold", f"{confidence:f}", f"{rules.min_confidence:f}")
    used = min(formula.leverage, max(Decimal(1), model.leverage))
    stop, take = bound_levels(model.stop_loss_pct, model.take_profit_pct, used)
    return Proposed(replace(formula.scored, confidence=confidence), stop, take, used)
