"""Inbox channel: users read the delivery row itself (API, admin, `manage.py rules inbox`)."""

from maxxit.notify.channels.base import Message


class Inbox:
    needs_address = False

    def check(self, address: str) -> None:
        """The inbox needs no address."""

    def send(self, message: Message) -> None:
        """Nothing to send: the row is stored already."""
