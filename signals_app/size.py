"""What a signal says about the size of its entries: its tier, and the part of the balance that its preset names.

The order is sized when it is placed (`trading/sizing.py`), by the account and the limits in force then.
"""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from maxxit.core.config import Percent, load
from maxxit.core.money import plain

HIGH, MEDIUM = Decimal("0.7"), Decimal("0.5")
"""Confidence from which a tier begins."""
PER_POST, BY_POSTS = Decimal("0.05"), Decimal("0.20")
"""What each supporting post adds to the confidence, and all of them at most."""


class Shares(BaseModel):
    """Percent of the available balance, by tier, and the most."""

    model_config = ConfigDict(frozen=True)
    high_pct: Percent
    medium_pct: Percent
    low_pct: Percent
    max_pct: Percent


class Presets(BaseModel):
    """`sizing` of `config/risk.yaml`; the rest of the file is typed in `trading/policy.py`."""

    model_config = ConfigDict(frozen=True)
    sizing: dict[str, Shares]


def tier(confidence: Decimal, posts: int) -> str:
    """high from 70 %, medium from 50 %, otherwise low; each supporting post adds 5 points, 20 at most."""
    boosted = confidence + min(posts * PER_POST, BY_POSTS)
    return "high" if boosted >= HIGH else "medium" if boosted >= MEDIUM else "low"


def size_model(preset: str, confidence: Decimal, posts: int) -> dict[str, Any]:
    """The column `size_model`; `size` is a fraction of the available balance as text, from the configured preset."""
    name, shares = tier(confidence, posts), load("risk", Presets).sizing[preset]
    share = {"high": shares.high_pct, "medium": shares.medium_pct, "low": shares.low_pct}[name]
    return {"preset": preset, "posts": posts, "tier": name, "size": plain(min(share, shares.max_pct) / 100)}
