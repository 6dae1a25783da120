"""Order states and the allowed transitions: planned -> sending -> accepted -> filled, or another terminal state."""

from enum import StrEnum


class OrderState(StrEnum):
    PLANNED = "planned"
    BLOCKED = "blocked"
    SENDING = "sending"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REPLACED = "replaced"


_S = OrderState
_ENDED_AT_VENUE = frozenset({_S.FILLED, _S.CANCELED, _S.REJECTED, _S.EXPIRED, _S.REPLACED})

ORDER = {
    _S.PLANNED: frozenset({_S.BLOCKED, _S.SENDING, _S.EXPIRED}),
    _S.SENDING: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED, _S.UNKNOWN}) | _ENDED_AT_VENUE,
    _S.UNKNOWN: frozenset({_S.ACCEPTED, _S.PARTIALLY_FILLED}) | _ENDED_AT_VENUE,
    _S.ACCEPTED: frozenset({_S.PARTIALLY_FILLED}) | _ENDED_AT_VENUE,
    _S.PARTIALLY_FILLED: _ENDED_AT_VENUE,
    _S.BLOCKED: frozenset(),
    _S.FILLED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.REJECTED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.REPLACED: frozenset(),
}

IN_FLIGHT = frozenset({_S.SENDING, _S.UNKNOWN, _S.ACCEPTED, _S.PARTIALLY_FILLED})
"""Sent and not in a terminal state: these orders count against the open-order limits."""
IN_FLIGHT_SQL = f"({', '.join(repr(str(state)) for state in sorted(IN_FLIGHT))})"
"""`IN_FLIGHT` for an SQL text: as constants the planner finds the partial index, in prepared statements too."""
