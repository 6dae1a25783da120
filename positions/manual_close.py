"""Close a position by hand: from the trade page, the API and the command; asking twice closes nothing twice."""

from dataclasses import asdict, dataclass
from typing import Any

from django.db import transaction

from maxxit.events.record import record
from positions.exits import sweep
from positions.flatten import gate_reason
from positions.models import Position
from positions.states import PositionState
from trading.reasons import Reason


@dataclass(frozen=True, slots=True)
class Requested:
    """What a request to close a position did."""

    position_id: int
    state: str
    """Of the position now: open, closing or closed."""
    started: bool
    """This request wrote the closing order; False where it is closing or closed already, or the gate is closed."""
    text: str
    """For the person who asked."""

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the API."""
        return asdict(self)


def close_by_hand(position: Position, *, by: str) -> Requested:
    """Write the closing order of a position at the market price, unless it is closing or closed, or the gate is closed.

    The kill switch and paused exits do not keep a person from closing. Stale quotes do not either: the last known price
    is the reference. `by` is recorded with the event `position.close_requested`.
    """
    with transaction.atomic():
        started = bool(sweep.close([position.pk]))
        if started:
            record("position.close_requested", position, by=by)
    position.refresh_from_db(fields=["state", "exit_reason"])
    name = f"position {position.pk} ({position.symbol})"
    if started:
        return Requested(position.pk, position.state, True, f"{name} is closing: the order is on its way")
    if position.state == PositionState.CLOSING:
        reason = position.exit_reason.replace("_", " ")
        return Requested(
            position.pk, position.state, False, f"{name} is closing already ({reason}): nothing was done"
        )
    if position.state == PositionState.CLOSED:
        return Requested(position.pk, position.state, False, f"{name} is closed already: nothing was done")
    return Requested(position.pk, position.state, False, f"{name} stays open: {_blocked_by(position)}")


def _blocked_by(position: Position) -> str:
    """Return why the closing order of an open position could not be written."""
    venue = position.entry_order.venue
    code = gate_reason(venue)
    if not code:
        return f"the gate of {venue} opened or closed meanwhile; ask again"
    reason = next(known for known in Reason if known == code)
    return f"{reason.text} ({code}). {reason.fix[0].upper()}{reason.fix[1:]}"
