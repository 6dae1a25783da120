"""Telegram's side of the chat: read an update, act on it once, and form the reply. No network.

https://core.telegram.org/bots/api#update. Only a text message that a person writes in their private chat with the bot
counts. A stranger's chat gets nothing, whatever it sends, but for a code that connects it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from django.db import IntegrityError, transaction

from maxxit.access import auth
from maxxit.chat import commands, connecting
from maxxit.chat.answers import MAX_TEXT, Answer
from maxxit.chat.commands import Asked, Reply
from maxxit.chat.models import ChatUpdate
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.core.untrusted import storable
from maxxit.notify.endpoints import lookup_of
from maxxit.postgres.failures import database_is_away

log = structlog.get_logger(__name__)

UPDATES = ("message",)
"""Kinds of updates that the bot asks for."""
PER_MINUTE = 20
"""Messages of one chat that are answered."""
MAX_ARGUMENT = 200
"""Characters of a message that are read."""
FAILED = "This could not be answered: an unexpected error, which our log holds. Please try again later."
UNKNOWN = "No such command. /help lists all of them."
TOO_MANY = f"More than {PER_MINUTE} messages in a minute: the next ones are left out. Try again in a minute."


@dataclass(frozen=True, slots=True)
class Incoming:
    """A text message of a private chat."""

    update_id: int
    chat: int
    text: str
    at: datetime
    """When it was sent, UTC."""


def read_update(raw: Any) -> Incoming | None:
    """Return the message of an update; None for any other update, and for one that is not of Telegram's form.

    A message that was forwarded, edited or sent through another bot was not written as a command to us.
    """
    try:
        message = raw["message"]
        chat, sender = message["chat"], message["from"]
        values = (raw["update_id"], chat["id"], sender["id"], message["date"])
        own = chat["type"] == "private" and chat["id"] == sender["id"] and not sender.get("is_bot", False)
        text = message["text"]
        foreign = {"forward_origin", "forward_date", "via_bot"} & set(message)
    except (KeyError, TypeError, AttributeError):
        return None
    if not own or foreign or not isinstance(text, str) or any(type(one) is not int for one in values):
        return None
    if any(not 0 < one < 2**52 for one in values):
        return None
    try:
        at = datetime.fromtimestamp(message["date"], UTC)
    except (ValueError, OverflowError, OSError):
        return None
    text = str(storable(text))[:MAX_ARGUMENT]
    return Incoming(raw["update_id"], chat["id"], text, min(at, clock.now()))


def answer_update(raw: Any) -> dict[str, Any] | None:
    """Act on an update and return the parameters of the sendMessage that answers it; None where nothing is sent.

    The update's id is stored in the transaction of what it does: a repeated update does nothing, and one that a killed
    process was about to do is done when Telegram repeats it. So is one for which the database was away: then Django's
    OperationalError or InterfaceError is raised.
    """
    incoming = read_update(raw)
    if incoming is None:
        return None
    count = auth.count(f"chat:{lookup_of(connecting.CHANNEL, str(incoming.chat))}")
    if count > PER_MINUTE + 1:
        return None
    reply = _answer(incoming, limited=count > PER_MINUTE)
    return None if reply is None else message_of(reply, incoming.chat)


def _answer(incoming: Incoming, *, limited: bool) -> Reply | None:
    person = connecting.user_at(incoming.chat)
    command, argument = commands.find(incoming.text)
    if person is None:
        if limited or command is None or command.name != "start" or not argument:
            return None
        return _connect(incoming, argument)
    try:
        with transaction.atomic():
            name = command.name.partition(" ")[0] if command else ""
            ChatUpdate.objects.create(
                update_id=incoming.update_id, user_id=person.pk, command=name, at=clock.now()
            )
            if limited:
                return _says(TOO_MANY)
            return _says(UNKNOWN) if command is None else _run(command, Asked(person, argument, incoming.at))
    except IntegrityError:  # it was answered before
        return None


def _run(command: commands.Command, asked: Asked) -> Reply:
    """Run a command; an error becomes its answer and undoes what the command did."""
    try:
        with transaction.atomic():
            return commands.run(command, asked)
    except MaxxitError as error:
        text = str(error)
        return _says(f"{text[:1].upper()}{text[1:]}.".replace("..", "."))
    except Exception as error:
        if database_is_away(error):
            raise
        log.exception("chat_command_failed", command=command.name)
        return _says(FAILED)


def _connect(incoming: Incoming, code: str) -> Reply | None:
    try:
        person = connecting.connect(incoming.chat, code, at=incoming.at)
    except MaxxitError as error:
        log.error("chat_not_connected", reason=str(error))
        return None
    if person is None:
        return None
    return commands.run(commands.COMMANDS["help"], Asked(person, "", incoming.at))


def _says(text: str) -> Reply:
    return Reply(Answer({}, (text,)))


def message_of(reply: Reply, chat: int) -> dict[str, Any]:
    """Return the parameters of sendMessage: plain text, so that nothing in it is markup; its buttons send a text."""
    message: dict[str, Any] = {
        "chat_id": chat,
        "text": reply.answer.text(MAX_TEXT) or "–",
        "link_preview_options": {"is_disabled": True},
    }
    if reply.buttons:
        message["reply_markup"] = {
            "keyboard": [[{"text": text}] for text in reply.buttons],
            "one_time_keyboard": True,
            "resize_keyboard": True,
        }
    return message
