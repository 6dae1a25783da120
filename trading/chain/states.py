"""Chain transaction states and transitions: planned -> signed -> broadcast -> mined -> final, or another end."""

from enum import StrEnum


class TxState(StrEnum):
    PLANNED = "planned"
    """The intent is stored; it has no nonce and is not signed."""
    SIGNED = "signed"
    """The signed bytes are stored; they may or may not have been sent."""
    BROADCAST = "broadcast"
    """A node accepted the bytes."""
    MINED = "mined"
    """A receipt was seen; a reorg may still remove it."""
    FINAL = "final"
    REVERTED = "reverted"
    """Final, with a failed status: nothing changed but the gas was paid."""
    REPLACED = "replaced"
    """Its nonce was used by a transaction that is not ours."""
    DROPPED = "dropped"
    """Given up before it was signed."""
    EXPIRED = "expired"
    """Held back by the gate until a final block was past its deadline, so that it can have no effect. Its nonce may be
    unused."""
    CANCELED = "canceled"
    """Final: an empty transaction of ours used its nonce."""


_S = TxState

TRANSACTION = {
    _S.PLANNED: frozenset({_S.SIGNED, _S.DROPPED}),
    _S.SIGNED: frozenset({_S.BROADCAST, _S.MINED, _S.REPLACED, _S.EXPIRED}),
    _S.BROADCAST: frozenset({_S.MINED, _S.REPLACED, _S.EXPIRED}),
    _S.MINED: frozenset({_S.BROADCAST, _S.FINAL, _S.REVERTED, _S.CANCELED}),
    _S.EXPIRED: frozenset({_S.SIGNED, _S.MINED}),
    _S.CANCELED: frozenset(),
    _S.FINAL: frozenset(),
    _S.REVERTED: frozenset(),
    _S.REPLACED: frozenset(),
    _S.DROPPED: frozenset(),
}

IN_FLIGHT = frozenset({_S.SIGNED, _S.BROADCAST, _S.MINED})
"""Signed, and not final yet."""
