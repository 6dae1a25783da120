"""The interface of a notification channel. One module holds everything about a channel: docs/new-channel.md."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

GONE = "gone"
"""Code of a `Rejected` that says the address will never take a message again: it is removed."""


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
    title: str = ""
    """What kind of message it is, in a few words."""
    severity: str = "warning"
    """info, warning or critical."""
    unsubscribe: str = ""
    """The link that removes the address without a login; empty where the channel needs no address."""


@dataclass(frozen=True, slots=True)
class AddressField:
    """The field of the page in which a user types the address."""

    label: str
    help_text: str
    placeholder: str = ""
    kind: str = "text"
    """The type of the input: text, url, email or tel; `push` is a button that subscribes the browser."""


class Channel(ABC):
    """Sends messages to users."""

    title: str
    about: str
    """One sentence on what arrives there and how."""
    form: AddressField | None = None
    """How the user names an address; None where the channel needs none."""
    signs = False
    """Whether its messages carry a signature that the receiver checks with the endpoint's secret."""
    answers = False
    """Whether users write commands there (`maxxit.chat`)."""
    confirms = False
    """Whether an address counts only when its owner has typed the code that was sent there."""
    refuses_in_body = False
    """Whether an answer with a status below 300 may refuse the message in its body."""
    most_at_once = 64
    """Sends at once at most, where config/notify.yaml allows as many."""

    def available(self) -> bool:
        """Return whether this installation has what the channel needs; where not, it is not offered."""
        return True

    def verify(self, address: str) -> str:
        """Return the address as it is stored. Raises `Rejected` for one that can never be sent to."""
        return address

    def shown(self, address: str) -> str:
        """Return what people see of an address: enough to recognise it, and nothing that lets one send there."""
        return address

    def test_text(self, user: str) -> str:
        """Return the text of a test message."""
        return f"Test message for {user} on the channel {self.title}: it works"

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send the message. Raises Retryable or Unknown (it is sent again) or Rejected (it is not).

        Runs on a thread: it must not use the database and must end within `SEND_SECONDS`. No error may quote an
        address that is a secret. A `Rejected` with the code `GONE` removes the address.
        """
