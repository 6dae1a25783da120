"""Typed rules of positions with margin in `config/risk.yaml`: the warning before a liquidation, and its trigger."""

from pydantic import model_validator

from maxxit.core.config import Percent, Policy
from maxxit.core.terms import KillLevel


class RoomTrigger(Policy):
    """Kill-switch trigger when a position can lose less of its initial margin (percent) before it is liquidated."""

    room_pct: Percent
    level: KillLevel


class LiquidationWarning(Policy):
    """When a position with margin is near its liquidation: by what it can still lose, percent of its initial margin."""

    room_pct: Percent
    """Near from here down; told once."""
    clear_pct: Percent
    """Not near any more from here up; then the next approach is told again."""

    @model_validator(mode="after")
    def _apart(self) -> "LiquidationWarning":
        if self.clear_pct <= self.room_pct:
            raise ValueError(
                "clear_pct is above room_pct, else a price at the edge would be told again and again"
            )
        return self
