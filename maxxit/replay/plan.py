"""What a preview plays: accounts, capital, presets and a span of recorded time."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preview plays."""

    accounts: tuple[str, ...]
    """User names without @."""
    capital: Decimal
    """USDC."""
    sizing_preset: str
    exit_preset: str
    start: datetime
    """UTC, inclusive."""
    end: datetime
    """UTC, exclusive."""

    def as_json(self) -> dict[str, Any]:
        """Return the plan for the database and the API."""
        return {
            "accounts": list(self.accounts),
            "capital": str(self.capital),
            "sizing_preset": self.sizing_preset,
            "exit_preset": self.exit_preset,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Plan":
        """Return the plan that `as_json` wrote."""
        start, end = (datetime.fromisoformat(values[name]) for name in ("start", "end"))
        return cls(
            tuple(values["accounts"]),
            Decimal(values["capital"]),
            values["sizing_preset"],
            values["exit_preset"],
            start,
            end,
        )
