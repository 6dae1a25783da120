"""What the price did after calls: 24 hours after a post was stored or a signal decided, against the price then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import fmean

from maxxit.core import clock
from maxxit.core.terms import SIGN
from maxxit.market import candles

HORIZON = timedelta(hours=24)
"""After which the outcome of a call is looked at."""
Call = tuple[str, str, datetime]
"""Token, side, and the time from which it could be traded."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of calls: the price 24 hours after the call, against the price then."""

    calls: int
    """Token and side each."""
    known: int
    """Whose 24 hours are over and whose prices are stored."""
    right: int
    """Whose price moved to the called side."""
    mean_pct: float | None
    """Mean return to the called side, percent, without costs."""


def moves(calls: Sequence[Call]) -> list[Decimal | None]:
    """Return for each call the price's move to the called side after 24 hours, percent without costs, in one query.

    None where the 24 hours are not over, or a price is not stored.
    """
    now = clock.now()
    over = [call for call in calls if call[2] + HORIZON <= now]
    wanted = [(token, at) for token, _, at in over] + [(token, at + HORIZON) for token, _, at in over]
    prices = candles.closes(wanted) if wanted else []
    both = iter(zip(prices[: len(over)], prices[len(over) :], strict=True))
    found: list[Decimal | None] = []
    for _, side, at in calls:
        begin, end = next(both) if at + HORIZON <= now else (None, None)
        found.append((end / begin - 1) * 100 * SIGN[side] if begin and end else None)
    return found


def outcomes(found: Sequence[Decimal | None]) -> Outcomes:
    """Return the figures of the moves of calls."""
    known = [float(move) for move in found if move is not None]
    mean = round(fmean(known), 3) if known else None
    return Outcomes(len(found), len(known), sum(move > 0 for move in known), mean)
