"""Turn five preferences of 0 to 100 into an agent's weights, sizing preset and least confidence. Pure.

The table stands in docs/agents.md. At 50 each the result is that of a new agent: every weight 50, the preset
`moderate`, a least confidence of 0.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from agents.evidence import POSTS, UNMEASURED
from maxxit.core.terms import Preset

DEFAULT, HIGHEST = 50, 100
CONSERVATIVE_BELOW, AGGRESSIVE_FROM = 34, 67
"""Of `risk_tolerance`."""
CONFIDENCE_AT_0, CONFIDENCE_PER_POINT = Decimal("0.8"), Decimal("0.006")
"""Of `trade_frequency`: 0.8 at 0, 0.5 at 50, 0.2 at 100."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a customer wants of an agent, each from 0 to 100."""

    risk_tolerance: int = DEFAULT
    trade_frequency: int = DEFAULT
    social_sentiment_weight: int = DEFAULT
    price_momentum_focus: int = DEFAULT
    market_rank_priority: int = DEFAULT

    def as_json(self) -> dict[str, int]:
        """Return name -> value."""
        return {name: getattr(self, name) for name in NAMES}


NAMES = tuple(field.name for field in fields(Preferences))


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from the preferences."""

    weights: dict[str, int]
    """Piece of evidence -> 0 to 100."""
    sizing_preset: Preset
    min_confidence: Decimal
    """Fraction."""


def preferences_problem(given: object) -> str:
    """Return why `given` is no map from known preferences to whole numbers 0 to 100, or an empty string."""
    if not isinstance(given, Mapping):
        return "preferences are a map from a name to a number"
    if unknown := sorted(str(name) for name in given if name not in NAMES):
        return f"no preference named {', '.join(unknown)}; known: {', '.join(NAMES)}"
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= HIGHEST:
            return f"{name} is a whole number from 0 to {HIGHEST}, not {value}"
    return ""


def derive(preferences: Preferences) -> Derived:
    """Return the weights, the sizing preset and the least confidence of these preferences.

    * posts weigh `social_sentiment_weight`;
    * pieces that follow a trend (momentum, macd, moving_average) weigh `price_momentum_focus`, those that expect a
      reversal (rsi, bollinger) 100 less it;
    * unusual volume weighs `market_rank_priority`: no piece of evidence measures a token's rank, volume is the nearest;
    * volatility, which speaks against a trade, weighs 100 less `risk_tolerance`, and sizes grow with the tolerance;
    * pieces of which no edge was measured weigh nothing;
    * the more frequent the trades, the lower the confidence from which one is made.
    """
    trend, risk = preferences.price_momentum_focus, preferences.risk_tolerance
    preset = (
        Preset.CONSERVATIVE
        if risk < CONSERVATIVE_BELOW
        else Preset.AGGRESSIVE
        if risk >= AGGRESSIVE_FROM
        else Preset.MODERATE
    )
    weights = dict.fromkeys(sorted(UNMEASURED), 0) | {
        POSTS: preferences.social_sentiment_weight,
        "rsi": HIGHEST - trend,
        "macd": trend,
        "bollinger": HIGHEST - trend,
        "volume": preferences.market_rank_priority,
        "moving_average": trend,
        "momentum": trend,
        "volatility": HIGHEST - risk,
    }
    confidence = CONFIDENCE_AT_0 - CONFIDENCE_PER_POINT * preferences.trade_frequency
    return Derived(weights, preset, confidence)


def as_preferences(given: Mapping[str, Any]) -> Preferences:
    """Return `given`, which `preferences_problem` accepts, as preferences; those that are missing are 50."""
    return Preferences(**given)
