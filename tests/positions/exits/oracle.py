"""The exit rules for one position in Python: the test oracle for the SQL of `positions.exits.sweep`. Pure functions."""

from datetime import datetime
from decimal import Decimal

from maxxit.core.terms import SIGN, Side
from positions.exits.levels import Levels


def exit_reason(
    position: Levels, trailing_stop: Decimal | None, *, side: str, price: Decimal, now: datetime
) -> str:
    """Return the exit reason of a position at `price` (USD), the first in order of priority; empty for none."""
    sign = SIGN[side]
    if sign * (price - position.take_profit) >= 0:
        return "take_profit"
    if sign * (price - position.stop_loss) <= 0:
        return "stop_loss"
    if trailing_stop is not None and sign * (price - trailing_stop) <= 0:
        return "trailing_stop"
    return "time_exit" if now >= position.time_exit_at else ""


def ratchet(position: Levels, trailing_stop: Decimal | None, *, side: str, price: Decimal) -> Decimal | None:
    """Return the trailing stop (USD) after `price`: set at the activation price, then it only tightens."""
    if position.trailing_activation is None or position.trailing_pct is None:
        return None
    sign = SIGN[side]
    if trailing_stop is None and sign * (price - position.trailing_activation) < 0:
        return None
    wanted = price * (1 - sign * position.trailing_pct / 100)
    if trailing_stop is None:
        return wanted
    return max(trailing_stop, wanted) if side == Side.LONG else min(trailing_stop, wanted)
