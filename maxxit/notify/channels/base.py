"""What a channel is."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell one person. `ident` stays the same over every try: receivers drop repetitions by it."""

    ident: str
    name: str
    """Of the event, for example rule.matched."""
    at: str
    """UTC, ISO 8601."""
    user: str
    text: str
    """One line for people."""
    data: dict[str, Any]
    address: str = ""
    secret: str = ""


class Channel(Protocol):
    """A way to tell people."""

    needs_address: bool
    """Whether a person must have named an endpoint before."""

    def check(self, address: str) -> None:
        """Raise `Rejected` for an address that could never be sent to."""
        ...

    def send(self, message: Message) -> None:
        """Deliver it at least once. Raises Retryable or Unknown (it is sent again), Rejected (it never will be).

        Runs on a thread: it must not use the database, and must end within `SEND_SECONDS`.
        """
        ...
