"""Compute the exit levels of a position and the retry delay of refused exits. Pure functions.

Prices in USD, percentages as 1 = one percent. Which level is reached is decided by the SQL of `positions.exits.sweep`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from maxxit.core.terms import SIGN
from trading.risk.policy import Exits


@dataclass(frozen=True, slots=True)
class Levels:
    """Prices (USD) and the time at which a position is closed: each field is a column of the position."""

    stop_loss: Decimal
    take_profit: Decimal
    time_exit_at: datetime
    trailing_activation: Decimal | None
    trailing_pct: Decimal | None

    PRICES: ClassVar = ("stop_loss", "take_profit", "trailing_activation")
    """Fields that are stored in whole ticks."""

    def columns(self, round_price: Callable[[Decimal], Decimal]) -> dict[str, Any]:
        """Return the levels as columns of a position, its prices rounded by `round_price`."""
        values = {name: getattr(self, name) for name in LEVELS}
        prices = {name: round_price(values[name]) for name in self.PRICES if values[name] is not None}
        return values | prices


LEVELS = tuple(field.name for field in fields(Levels))
"""The columns of a position that hold its exit levels."""


def levels(
    rules: Exits,
    *,
    side: str,
    entry: Decimal,
    opened_at: datetime,
    stop_loss_pct: Decimal,
    take_profit_pct: Decimal,
) -> Levels:
    """Return the exit levels of a position entered at `entry` (USD).

    `stop_loss_pct` and `take_profit_pct` are the signal's; the preset's own values replace them. The stop loss is never
    further away than `hard_stop_pct`. Long stop loss = entry × (1 - pct / 100); a short's levels are mirrored, and its
    take profit is at least zero.
    """
    sign = SIGN[side]
    stop, take = rules.stop_pct(stop_loss_pct), rules.target_pct(take_profit_pct)
    activation = rules.trailing_activation_pct
    return Levels(
        stop_loss=entry * (1 - sign * stop / 100),
        take_profit=max(entry * (1 + sign * take / 100), Decimal(0)),
        time_exit_at=opened_at + timedelta(minutes=rules.max_holding_minutes),
        trailing_activation=None if activation is None else entry * (1 + sign * activation / 100),
        trailing_pct=None if activation is None else rules.trailing_pct,
    )


FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=2), timedelta(minutes=5)
FORGET_REFUSALS_AFTER = timedelta(minutes=15)
"""Refusals are forgotten when a retry was allowed for this long and no exit was needed."""


def retry_after(refusals: int) -> timedelta:
    """Return the delay before the next closing order after `refusals` refused ones in a row: 2 s, doubling to 5 min."""
    doublings = min(max(refusals - 1, 0), 10)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)
