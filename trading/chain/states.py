"""chain transaction: planned -> signed -> broadcast -> mined -> final, and every way it may end otherwise"""

from enum import StrEnum


class TxState(StrEnum):
    PLANNED = "planned"
    """The intent is stored; no nonce, nothing signed."""
    SIGNED = "signed"
    """The signed bytes are stored; they may or may not have left."""
    BROADCAST = "broadcast"
    """A node has taken them."""
    MINED = "mined"
    """A receipt was seen; the chain may still take it back."""
    FINAL = "final"
    REVERTED = "reverted"
    """Final, and it changed nothing."""
    REPLACED = "replaced"
    """Its nonce was used by a transaction that is not ours."""
    DROPPED = "dropped"
    """Given up before anything was signed."""
    EXPIRED = "expired"
    """Held back until its deadline had passed in a final block: it can do nothing any more. Its nonce may be open."""
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
"""Signed bytes exist and the chain has not had its last word."""
