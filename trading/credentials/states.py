"""States of a request to store or test keys."""

from enum import StrEnum


class RequestState(StrEnum):
    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    REPLACED = "replaced"


_ENDED = frozenset({RequestState.ACCEPTED, RequestState.REFUSED, RequestState.REPLACED})
REQUEST = {RequestState.WAITING: _ENDED} | {state: frozenset[RequestState]() for state in _ENDED}
