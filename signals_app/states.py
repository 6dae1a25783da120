"""States and transitions. Post: new -> prefiltered | classified | quarantined. Signal: pending -> executed | skipped |
expired."""

from enum import StrEnum


class PostState(StrEnum):
    NEW = "new"
    PREFILTERED = "prefiltered"
    CLASSIFIED = "classified"
    QUARANTINED = "quarantined"


class SignalState(StrEnum):
    PENDING = "pending"
    EXECUTED = "executed"
    SKIPPED = "skipped"
    EXPIRED = "expired"


POST = {
    PostState.NEW: frozenset({PostState.PREFILTERED, PostState.CLASSIFIED, PostState.QUARANTINED}),
    PostState.QUARANTINED: frozenset({PostState.NEW}),
    PostState.PREFILTERED: frozenset(),
    PostState.CLASSIFIED: frozenset(),
}

SIGNAL = {
    SignalState.PENDING: frozenset({SignalState.EXECUTED, SignalState.SKIPPED, SignalState.EXPIRED}),
    SignalState.EXECUTED: frozenset(),
    SignalState.SKIPPED: frozenset(),
    SignalState.EXPIRED: frozenset(),
}
