"""Connect a chat to an account: the account makes a code on its settings page, the chat sends it, once."""

from datetime import datetime
from typing import Any

from django.db import transaction

from maxxit.chat import codes
from maxxit.chat.models import ChatCode
from maxxit.core.config import variable
from maxxit.core.errors import Rejected
from maxxit.events.record import record
from maxxit.notify import endpoints
from maxxit.notify.models import Endpoint
from maxxit.notify.policy import policy

CHANNEL = "telegram"
BOT_NAME, WEBHOOK_SECRET = "TELEGRAM_BOT_NAME", "TELEGRAM_WEBHOOK_SECRET"


def offered() -> bool:
    """Return whether this installation offers the channel."""
    return CHANNEL in policy().offered


def connect_code(user: Any) -> str:
    """Make the code with which `user` connects a chat. Raises Rejected where the channel is not offered."""
    if not offered():
        raise Rejected("this installation does not offer Telegram: ask its operator", code="not_offered")
    return codes.new_code(user, ChatCode.CONNECT)


def link_of(code: str) -> str:
    """Return the link that opens the bot and sends it the code; empty where the bot's name is not set."""
    name = variable(BOT_NAME).lstrip("@")
    return f"https://t.me/{name}?start={code}" if name else ""


def chat_of(user: Any) -> Endpoint | None:
    """Return the confirmed chat of `user` that commands are taken from; None without one."""
    row = endpoints.current(user, CHANNEL)
    return row if row and row.verified_at and row.lookup else None


def user_at(chat: int) -> Any:
    """Return the user whose chat this is; None for a stranger's."""
    return endpoints.user_at(CHANNEL, str(chat))


@transaction.atomic
def connect(chat: int, code: str, *, at: datetime) -> Any:
    """Make `chat` the confirmed address of the code's user and return that user; None for a code that does not work.

    Args:
        at: when the code was sent.

    Raises:
        Rejected: the account is closed, or the channel is no longer offered.
        Misconfigured: this process has no key to encrypt the address with.
    """
    row = codes.use_code(ChatCode.CONNECT, code, at=at)
    if row is None or not row.user.is_active:
        return None
    endpoint = endpoints.set_endpoint(row.user, CHANNEL, str(chat), confirmed=True)
    record("endpoint.verified", endpoint, channel=CHANNEL, by="chat")
    return row.user


def disconnect(user: Any) -> bool:
    """Remove the chat of `user`: nothing is sent there, and commands from there are not answered."""
    return endpoints.forget(user, CHANNEL, why="disconnected")
