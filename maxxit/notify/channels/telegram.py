"""Telegram channel: a message of the installation's bot to the user's chat, https://core.telegram.org/bots/api#sendmessage

`TELEGRAM_BOT_TOKEN` stands in the environment of the notify worker and of `manage.py chat` alone. The token is part of
every URL; errors name the host only.
"""

import html
import re
from typing import Any

from maxxit.core import redact, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Rejected, Retryable, Unknown
from maxxit.core.http import client, fetch
from maxxit.notify.channels.base import GONE, AddressField, Channel, Message
from maxxit.notify.policy import SEND_SECONDS

API = "https://api.telegram.org"
TOKEN, BASE_URL = "TELEGRAM_BOT_TOKEN", "TELEGRAM_BASE_URL"
MAX_TEXT = 4096
"""Characters, after the marks of HTML are read."""
MAX_WAIT = 3600.0
"""Seconds."""
_CHAT = re.compile(r"-?[1-9][0-9]{0,17}")
_GONE = ("chat not found", "group chat was deactivated", "user is deactivated", "peer_id_invalid")


def body_of(message: Message, chat: int) -> dict[str, Any]:
    """Return the parameters of sendMessage; what matters little makes no sound."""
    room = MAX_TEXT - len(message.title) - 1
    text = f"<b>{html.escape(message.title)}</b>\n{html.escape(message.text[:room])}"
    return {
        "chat_id": chat,
        "text": text,
        "parse_mode": "HTML",
        "disable_notification": message.severity == "info",
        "link_preview_options": {"is_disabled": True},
    }


class Telegram(Channel):
    title = "Telegram"
    about = "A message of our bot in your chat."
    form = AddressField(
        "Chat id",
        "A number: press Start in our bot, and ask @userinfobot for your id. A code is sent there; enter it here. "
        "Settings, Chat connects a chat without the number.",
        "123456789",
    )
    confirms = True
    answers = True

    def verify(self, address: str) -> str:
        if not _CHAT.fullmatch(address.strip()):
            raise Rejected(f"{address[:40]!r} is no chat id: a number such as 123456789", code="bad_address")
        return address.strip()

    def send(self, message: Message) -> None:
        chat = int(message.address)
        try:
            call("sendMessage", body_of(message, chat))
        except Rejected as error:
            parameters = _answer(error.body).get("parameters")
            moved = parameters.get("migrate_to_chat_id") if isinstance(parameters, dict) else None
            if isinstance(moved, int):  # the group became a supergroup
                call("sendMessage", body_of(message, moved))
                return
            if error.code == "http_403" or any(text in error.body.lower() for text in _GONE):
                raise Rejected(f"Telegram: {_description(error)}", code=GONE) from None
            raise Rejected(f"Telegram: {_description(error)}", code=error.code) from None


def call(method: str, parameters: dict[str, Any], *, seconds: float | None = None) -> Any:
    """Call a method of the Bot API and return its result.

    Args:
        seconds: time limit of the whole call; None: that of a message.

    Raises:
        Retryable: Telegram cannot be reached, limits the rate, does not answer in time, or refuses the bot's token.
        Rejected: Telegram refuses the parameters; `body` is its answer.
    """
    token = variable(TOKEN)
    if not token:
        raise Retryable(f"{TOKEN} is not set in the environment of this process")
    redact.know(token)
    seconds = SEND_SECONDS if seconds is None else seconds
    base = variable(BASE_URL) or API
    with client(base, timeout=seconds) as http:
        try:
            answer = fetch(
                http, "POST", f"/bot{token}/{method}", writes=True, max_seconds=seconds, json=parameters
            )
        except Retryable as error:
            if error.limited:
                raise Retryable("Telegram: too many requests", after=_wait(error), limited=True) from None
            raise
        except Unknown as error:  # a message that comes twice costs less than one that is missing
            raise Retryable(f"Telegram: {redact.text(str(error))}") from None
        except Rejected as error:
            if error.code in {"http_401", "http_404"}:  # a fault of ours, which an operator repairs
                raise Retryable(f"Telegram refuses the bot's token: check {TOKEN}") from None
            raise
    return _answer(answer.text).get("result")


def _answer(body: str) -> dict[str, Any]:
    try:
        value = untrusted.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _description(error: Rejected) -> str:
    return str(_answer(error.body).get("description") or error)[:200]


def _wait(error: Retryable) -> float | None:
    parameters = _answer(error.body).get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return min(float(wait), MAX_WAIT) if isinstance(wait, int | float) else error.after
