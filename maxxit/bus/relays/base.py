"""The protocol of relays: publish messages of the event log to another system."""

from collections.abc import Sequence
from typing import Protocol

from maxxit.bus.messages import Message


class Relay(Protocol):
    """Publishes to one other system. Used by one thread, and by no two processes at once."""

    def begin(self, position: int) -> None:
        """Prepare for the batch after event `position`, whatever was published before. Raises as `send` does.

        Called before the first batch of a new relay, and after its position was set by hand.
        """
        ...

    def send(self, messages: Sequence[Message], after: int, upto: int) -> int:
        """Publish the messages of the events with after < id <= upto; return the id up to which all are published.

        It returns only once the other system has them. The answer differs from `upto` where the other system knows
        better: it already had more, or it has lost its memory and gets the newest ones again.

        Raises:
            Retryable: not all were published, and it may work later. Those that were get published again.
            Rejected: the other system will never take one of them.
            Misconfigured: the operator must act.
        """
        ...

    def newest(self) -> str:
        """Return the mark (`Message.mark`) of the event that `send` answered with; empty where it is not known."""
        ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages that need no position, such as prices: only the newest one counts. Raises as `send` does."""
        ...

    def close(self) -> None:
        """Release connections and files."""
        ...
