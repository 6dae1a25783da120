"""The pieces of evidence that an agent can weigh: name in `weights` -> dotted path of the class.

The names stand here, below `signals_app`, because the agent's row is validated against them. The classes are in
`signals_app/evidence/`; they are loaded by name, as every plug-in is. A new piece is a module there and a line here.
"""

from collections.abc import Mapping
from typing import Any

from maxxit.core.registry import Registry

POSTS = "tweet"
"""The piece for posts. Its name is a key of every `agents.yaml`, so it stays."""
FORECAST = "forecast"
"""The piece for the direction model that serves."""
EVIDENCE: Registry[Any] = Registry(
    "piece of evidence",
    {
        POSTS: "signals_app.evidence.posts.Posts",
        "rsi": "signals_app.evidence.rsi.RelativeStrength",
        "macd": "signals_app.evidence.macd.Macd",
        "bollinger": "signals_app.evidence.bollinger.BollingerBands",
        "volume": "signals_app.evidence.volume.Volume",
        "moving_average": "signals_app.evidence.moving_average.MovingAverages",
        "momentum": "signals_app.evidence.momentum.Momentum",
        "volatility": "signals_app.evidence.volatility.Volatility",
        "engagement": "signals_app.evidence.engagement.Engagement",
        "social": "signals_app.evidence.social.Social",
        FORECAST: "signals_app.evidence.forecast.ForecastReturn",
    },
)
UNMEASURED = frozenset({"engagement", "social", FORECAST})
"""Pieces of which no edge was measured: a new agent gives them no weight."""
DEFAULT_WEIGHT, MAX_WEIGHT = 50, 100


def default_weights() -> dict[str, int]:
    """Return the weights of a new agent: every piece counts the same, but those without a measured edge not at all."""
    return {name: 0 if name in UNMEASURED else DEFAULT_WEIGHT for name in EVIDENCE}


def weights_problem(weights: object) -> str:
    """Return why `weights` is no map from known pieces of evidence to whole numbers 0 to 100, or an empty string."""
    if not isinstance(weights, Mapping):
        return "weights are a map from a piece of evidence to a number"
    if unknown := sorted(str(name) for name in weights if name not in EVIDENCE.known):
        return f"no piece of evidence named {', '.join(unknown)}; known: {', '.join(EVIDENCE)}"
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
            return f"the weight of {name} is a whole number from 0 to {MAX_WEIGHT}, not {weight}"
    return ""
