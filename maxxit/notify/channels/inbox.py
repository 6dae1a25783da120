"""In the app: the delivery row itself is what people read (API, admin, `manage.py rules inbox`)."""

from maxxit.notify.channels.base import Message


class Inbox:
    needs_address = False

    def check(self, address: str) -> None:
        """It has none."""

    def send(self, message: Message) -> None:
        """It is there already."""
