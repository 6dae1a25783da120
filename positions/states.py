"""position: open -> closing -> closed, and back to open when the exit order came to nothing"""

from enum import StrEnum


class PositionState(StrEnum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


POSITION = {
    PositionState.OPEN: frozenset({PositionState.CLOSING}),
    PositionState.CLOSING: frozenset({PositionState.CLOSED, PositionState.OPEN}),
    PositionState.CLOSED: frozenset(),
}
