"""States and allowed transitions of orders (planned -> sending -> accepted -> filled, or another terminal state) and of
requests for changes that need a second person (requested -> approved -> applied)."""

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


class RequestState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    APPLIED = "applied"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    STALE = "stale"
    """What the change starts from is no longer what it was when it was asked for."""


_R = RequestState

CHANGE_REQUEST = {
    _R.REQUESTED: frozenset({_R.APPROVED, _R.REFUSED, _R.WITHDRAWN, _R.EXPIRED, _R.STALE}),
    _R.APPROVED: frozenset({_R.APPLIED}),
    _R.APPLIED: frozenset(),
    _R.REFUSED: frozenset(),
    _R.WITHDRAWN: frozenset(),
    _R.EXPIRED: frozenset(),
    _R.STALE: frozenset(),
}
"""`approved` and `applied` are entered in one transaction, so `approved` is never seen in the table."""
