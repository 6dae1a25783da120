"""The sizing tier of a signal and its share of the available balance, by preset and confidence.

The order itself is sized when it is placed (`trading/entries/sizing.py`), from the account and the limits in force.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from maxxit.core.config import Percent, load
from maxxit.core.money import plain

HIGH, MEDIUM = Decimal("0.7"), Decimal("0.5")
"""Confidence at which the tiers high and medium begin."""
PER_POST, BY_POSTS = Decimal("0.05"), Decimal("0.20")
"""Confidence that each supporting post adds, and the maximum of all posts."""


class Shares(BaseModel):
    """Percent of the available balance by tier, and the maximum."""

    model_config = ConfigDict(frozen=True)
    high_pct: Percent
    medium_pct: Percent
    low_pct: Percent
    max_pct: Percent


class Presets(BaseModel):
    """The key `sizing` of `config/risk.yaml`; the rest of the file is typed in `trading/risk/policy.py`."""

    model_config = ConfigDict(frozen=True)
    sizing: dict[str, Shares]


def tier(confidence: Decimal, posts: int) -> str:
    """Return the tier: high from 70 %, medium from 50 %, else low; each post adds 5 points, 20 at most."""
    boosted = confidence + min(posts * PER_POST, BY_POSTS)
    return "high" if boosted >= HIGH else "medium" if boosted >= MEDIUM else "low"


def scale_of(model: Mapping[str, Any]) -> Decimal:
    """Return the fraction of its preset's size that a signal with this `size_model` is traded at; 1 for all."""
    return Decimal(model.get("volatility", {}).get("scale", 1))


def size_model(
    preset: str, confidence: Decimal, posts: int, volatility: Mapping[str, str | int] | None = None
) -> dict[str, Any]:
    """Return a signal's `size_model`; `size` is a fraction of the available balance, as text.

    Args:
        volatility: of `signals_app.forecast_use.volatility_size`; None or empty for an agent without a target.
    """
    name, shares = tier(confidence, posts), load("risk", Presets).sizing[preset]
    share = {"high": shares.high_pct, "medium": shares.medium_pct, "low": shares.low_pct}[name]
    basis = {"volatility": dict(volatility)} if volatility else {}
    size = min(share, shares.max_pct) / 100 * scale_of(basis)
    return {"preset": preset, "posts": posts, "tier": name, "size": plain(size), **basis}
