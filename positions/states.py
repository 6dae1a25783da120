"""Position states and transitions: open -> closing -> closed, and back to open if the exit order did not close it."""

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
