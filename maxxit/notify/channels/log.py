"""Log channel: a log line per message, for installations that collect logs."""

import structlog

from maxxit.notify.channels.base import Channel, Message

log = structlog.get_logger(__name__)


class Log(Channel):
    title = "Log"
    about = "A line in the log of the installation."

    def send(self, message: Message) -> None:
        log.info(
            "notification", message=message.ident, about=message.name, user=message.user, text=message.text
        )
