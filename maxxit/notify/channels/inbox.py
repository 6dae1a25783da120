"""Inbox channel: users read the delivery row itself (page, API, admin, `manage.py rules inbox`)."""

from maxxit.notify.channels.base import Channel, Message


class Inbox(Channel):
    title = "Inbox"
    about = "The list on this page, which holds every message."

    def send(self, message: Message) -> None:
        """Nothing to send: the row is stored already."""
