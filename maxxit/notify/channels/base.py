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


@dataclass(frozen=True, slots=True)
class AddressField:
    """The field of the page in which a user types the address."""

    label: str
    help_text: str
    placeholder: str = ""
    kind: str = "text"
    """The type of the input: text, url, email or tel."""


class Channel(Protocol):
    """Sends messages to users."""

    title: str
    about: str
    """One sentence on what arrives there and how."""
    offered: bool
    """Whether the page offers it to users."""
    signs: bool
    """Whether its messages carry a signature that the receiver checks with the endpoint's secret."""
    address_field: AddressField | None
    """How the user names an address; None where the channel needs none."""

    def check(self, address: str) -> None:
        """Raise `Rejected` for an address that can never be sent to."""
        ...

    def send(self, message: Message) -> None:
        """Send the message. Raises Retryable or Unknown (it is sent again) or Rejected (it is not).

        Runs on a thread: it must not use the database and must end within `SEND_SECONDS`.
        """
        ...
