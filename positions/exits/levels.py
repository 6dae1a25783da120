"""Where a position leaves. Pure. Prices in USD, percents as 1 = one percent."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from maxxit.core.terms import SIGN, Side
from trading.policy import Exits


@dataclass(frozen=True, slots=True)
class Levels:
    """Prices and a moment at which the position is closed."""

    stop_loss: Decimal
    take_profit: Decimal
    trailing_activation: Decimal | None
    trailing_pct: Decimal | None
    time_exit_at: datetime


def levels(
    rules: Exits,
    *,
    side: str,
    entry: Decimal,
    opened_at: datetime,
    stop_loss_pct: Decimal,
    take_profit_pct: Decimal,
) -> Levels:
    """The levels of a position entered at `entry`; the two percents are the signal's and give way to the rules'.

    The stop is never further away than the hard stop.
    """
    sign = SIGN[side]
    stop = rules.stop_loss_pct or stop_loss_pct
    if rules.hard_stop_pct is not None:
        stop = min(stop, rules.hard_stop_pct)
    take = rules.take_profit_pct or take_profit_pct
    wakes = rules.trailing_activation_pct
    return Levels(
        stop_loss=entry * (1 - sign * stop / 100),
        take_profit=max(entry * (1 + sign * take / 100), Decimal(0)),
        trailing_activation=None if wakes is None else entry * (1 + sign * wakes / 100),
        trailing_pct=None if wakes is None else rules.trailing_pct,
        time_exit_at=opened_at + timedelta(minutes=rules.max_holding_minutes),
    )


def exit_reason(
    position: Levels, trailing_stop: Decimal | None, *, side: str, price: Decimal, now: datetime
) -> str:
    """Why the position leaves at `price`, in the order of priority, or an empty string.

    The set-based sweep (`positions.exits.sweep`) decides the same in SQL; a property test holds the two together.
    """
    sign = SIGN[side]
    if sign * (price - position.take_profit) >= 0:
        return "take_profit"
    if sign * (price - position.stop_loss) <= 0:
        return "stop_loss"
    if trailing_stop is not None and sign * (price - trailing_stop) <= 0:
        return "trailing_stop"
    return "time_exit" if now >= position.time_exit_at else ""


FIRST_RETRY, LONGEST_RETRY = timedelta(seconds=2), timedelta(minutes=5)
FORGET_REFUSALS_AFTER = timedelta(minutes=15)
"""A refusal counts no longer when the exit could have been tried again for so long and was not needed."""


def retry_after(refusals: int) -> timedelta:
    """How long the sweep waits after so many refused closing orders in a row: 2 s, doubling to 5 min."""
    doublings = min(max(refusals - 1, 0), 10)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)


def ratchet(position: Levels, trailing_stop: Decimal | None, *, side: str, price: Decimal) -> Decimal | None:
    """The trailing stop after `price`: it wakes at the activation price and then only ever tightens."""
    if position.trailing_activation is None or position.trailing_pct is None:
        return None
    sign = SIGN[side]
    if trailing_stop is None and sign * (price - position.trailing_activation) < 0:
        return None
    wanted = price * (1 - sign * position.trailing_pct / 100)
    if trailing_stop is None:
        return wanted
    return max(trailing_stop, wanted) if side == Side.LONG else min(trailing_stop, wanted)
