"""The interface of a notification channel."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """A message to one user. `ident` is the same at every try, so that receivers can drop duplicates."""

    ident: str
    name: str
    """The event, for example rule.matched."""
    at: str
    """UTC, ISO 8601."""
    user: str
    text: str
    """One line for people."""
    data: dict[str, Any]
    address: str = ""
    secret: str = ""


class Channel(Protocol):
    """Sends messages to users."""

    needs_address: bool
    """Whether the user must have set an endpoint."""

    def check(self, address: str) -> None:
        """Raise `Rejected` for an address that can never be sent to."""
        ...

    def send(self, message: Message) -> None:
        """Send the message. Raises Retryable or Unknown (it is sent again) or Rejected (it is not).

        Runs on a thread: it must not use the database and must end within `SEND_SECONDS`.
        """
        ...
