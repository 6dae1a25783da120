"""A line in the log, for whoever ships logs already."""

import structlog

from maxxit.notify.channels.base import Message

log = structlog.get_logger(__name__)


class Log:
    needs_address = False

    def check(self, address: str) -> None:
        """It has none."""

    def send(self, message: Message) -> None:
        log.info("told", message=message.ident, about=message.name, user=message.user, text=message.text)
