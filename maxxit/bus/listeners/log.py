"""A listener that writes one line in the log for each message."""

import structlog

from maxxit.bus.listeners.base import Inbound

log = structlog.get_logger(__name__)


def write_line(message: Inbound) -> None:
    """Write the message's name, id and data."""
    log.info("event_heard", event_name=message.name, event_id=message.event_id, data=message.body.get("data"))
