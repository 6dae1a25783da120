"""What listeners and their sources have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from maxxit.core.untrusted import storable


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that a listener handles."""

    event_id: str
    """The same when it arrives twice: a listener whose effect must happen once remembers it."""
    name: str
    key: str
    """Messages of one key are handled in order: the correlation id, else what the source orders by."""
    body: Mapping[str, Any]
    """The whole message."""
    error: str = ""
    """Why it cannot be read; such a message becomes a dead letter."""


Listener = Callable[[Inbound], None]
"""Handles one message. Any exception is a failed attempt; `Rejected` makes the message a dead letter at once."""


class Source(Protocol):
    """Where messages come from. At least once: what was read and not marked as done is read again after a crash."""

    def read(self, most: int) -> Sequence[Inbound]:
        """Return the next messages, at most about `most`, in order; none at once or after a short wait.

        Raises:
            Retryable: the other system is away.
            Misconfigured: the operator must act.
        """
        ...

    def done(self) -> None:
        """Mark everything that was read as done."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


def inbound(body: Mapping[str, Any], event_id: str, key: str) -> Inbound:
    """Return a message of another system; its own event id, name and correlation id count where it has them."""
    name = storable(str(body.get("name") or body.get("type") or ""))
    corr = storable(str(body.get("correlation_id") or key or event_id))
    return Inbound(storable(str(body.get("event_id") or event_id))[:120], name[:60], corr[:120], body)
