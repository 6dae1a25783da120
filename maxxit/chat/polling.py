"""Fetch updates of the bot by long polling, and send the answers (docs/adr: long polling, or a webhook)."""

import threading
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import close_old_connections

from maxxit.chat import commands, telegram
from maxxit.core.errors import MaxxitError, Rejected, Retryable
from maxxit.notify.channels.telegram import call
from maxxit.postgres.failures import database_is_away

log = structlog.get_logger(__name__)

WAIT_SECONDS = 25
"""Telegram answers after this, also where there is no update."""
ROUND_TRIP_SECONDS = 10.0
AT_A_TIME = 20
"""Updates of one answer."""
PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds before the next try after so many failures in a row."""
LONGEST_PAUSE = 300.0
CONFLICT = "http_409"
"""A webhook is set, or another process fetches the updates of this bot."""


class Poller:
    """Fetches and answers updates until `stop` is set."""

    def __init__(self, wait: int = WAIT_SECONDS) -> None:
        self.stop = threading.Event()
        self.wait = wait
        self.fetching = False
        self._next: int | None = None
        """The id after the last update, which confirms all before it. Telegram may begin anew with a lower id once
        a bot has had none for a week, so it is forgotten as soon as it has confirmed."""
        self._failures = 0

    def run(self) -> None:
        """Poll until `stop` is set. No error ends it."""
        while not self.stop.is_set():
            close_old_connections()
            try:
                self.once()
                self._failures = 0
            except (MaxxitError, DatabaseError) as error:
                self._pause(error)

    def once(self) -> int:
        """Fetch and answer the updates that wait; return how many there were.

        Raises what `call` raises, and Django's OperationalError or InterfaceError where the database is away: the
        update that was about to be acted on is not confirmed, and comes again.
        """
        parameters: dict[str, Any] = {
            "timeout": self.wait, "limit": AT_A_TIME, "allowed_updates": list(telegram.UPDATES),
        }  # fmt: skip
        if self._next is not None:
            parameters["offset"] = self._next
        self.fetching = True
        try:
            updates = call("getUpdates", parameters, seconds=self.wait + ROUND_TRIP_SECONDS)
        finally:
            self.fetching = False
        updates = updates if isinstance(updates, list) else []
        self._next = None
        for update in updates:
            if self.stop.is_set():
                break  # the rest is not confirmed: it comes again
            self._answer(update)
            if isinstance(update, dict) and isinstance(update.get("update_id"), int):
                self._next = max(self._next or 0, update["update_id"] + 1)
        return len(updates)

    def _answer(self, update: Any) -> None:
        try:
            message = telegram.answer_update(update)
            if message is not None:
                call("sendMessage", message)
        except MaxxitError as error:  # who asked asks again
            log.warning("chat_answer_not_sent", reason=str(error)[:200])
        except Exception as error:
            if database_is_away(error):
                raise
            log.exception("chat_update_failed")

    def _pause(self, error: Exception) -> None:
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        if isinstance(error, Retryable) and error.after:
            pause = min(error.after, LONGEST_PAUSE)
        text = str(error)
        if isinstance(error, Rejected) and error.code == CONFLICT:
            pause = PAUSES[-1]
            text = (
                "another process fetches the updates of this bot, or a webhook is set "
                "(`manage.py chat --delete-webhook` removes it)"
            )
        log.warning("chat_updates_not_fetched", reason=text[:200], again_in_seconds=pause)
        self.stop.wait(pause)


def introduce() -> None:
    """Show the commands in the menu of private chats. Raises what `call` raises."""
    listed = [
        {"command": one.name, "description": one.about[:256]}
        for one in commands.COMMANDS.values()
        if " " not in one.name and one.name != "confirm"
    ]
    call("setMyCommands", {"commands": listed, "scope": {"type": "all_private_chats"}})


def set_webhook(url: str, secret: str) -> None:
    """Let Telegram send updates to `url`, with `secret` in a header. Raises what `call` raises."""
    call("setWebhook", {"url": url, "secret_token": secret, "allowed_updates": list(telegram.UPDATES)})


def delete_webhook() -> None:
    """End the webhook; updates that wait are kept. Raises what `call` raises."""
    call("deleteWebhook", {"drop_pending_updates": False})
