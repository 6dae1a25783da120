"""Log channel: a log line per message, for installations that collect logs."""

import structlog

from maxxit.notify.channels.base import Message

log = structlog.get_logger(__name__)


class Log:
    title = "Log"
    about = "A line in the log of the installation."
    offered, signs, address_field = False, False, None

    def check(self, address: str) -> None:
        """The log needs no address."""

    def send(self, message: Message) -> None:
        log.info(
            "notification", message=message.ident, about=message.name, user=message.user, text=message.text
        )
