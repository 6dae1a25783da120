"""Inbox channel: users read the delivery row itself (API, admin, `manage.py rules inbox`)."""

from maxxit.notify.channels.base import Message


class Inbox:
    title = "Inbox"
    about = "The list on this page, which holds every message."
    offered, signs, address_field = True, False, None

    def check(self, address: str) -> None:
        """The inbox needs no address."""

    def send(self, message: Message) -> None:
        """Nothing to send: the row is stored already."""
