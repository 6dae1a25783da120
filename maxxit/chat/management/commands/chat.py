"""`manage.py chat`: answer the commands of connected chats, by long polling or a webhook."""

import signal
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from maxxit.chat import commands, polling
from maxxit.chat.connecting import WEBHOOK_SECRET
from maxxit.core.config import variable
from maxxit.core.errors import MaxxitError
from maxxit.notify.channels.telegram import TOKEN

WEBHOOK_PATH = "/telegram/webhook"


class Command(BaseCommand):
    help = "Answer the commands of connected Telegram chats. Runs until it is stopped."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options; without one it polls."""
        one = parser.add_mutually_exclusive_group()
        one.add_argument(
            "--set-webhook", action="store_true", help="let Telegram call the web process instead"
        )
        one.add_argument("--delete-webhook", action="store_true", help="end that: this command polls again")
        one.add_argument("--matrix", action="store_true", help="print which role may use which command")

    def handle(self, *args: Any, **options: Any) -> None:
        """Poll until SIGTERM or Ctrl-C, or do what the option says."""
        if options["matrix"]:
            self.stdout.write(commands.matrix())
            return
        if not variable(TOKEN):
            raise CommandError(f"{TOKEN} is not set: @BotFather gives one; see docs/chat.md")
        try:
            if options["set_webhook"]:
                self._set_webhook()
            elif options["delete_webhook"]:
                polling.delete_webhook()
                self.stdout.write("Telegram calls no webhook any more: `manage.py chat` polls")
            else:
                self._poll()
        except MaxxitError as error:
            raise CommandError(str(error)) from None

    def _set_webhook(self) -> None:
        secret = variable(WEBHOOK_SECRET)
        if not secret:
            raise CommandError(f"{WEBHOOK_SECRET} is not set, here and in the web process: see docs/chat.md")
        url = settings.PUBLIC_URL + WEBHOOK_PATH
        polling.introduce()
        polling.set_webhook(url, secret)
        self.stdout.write(f"Telegram sends updates to {url}")

    def _poll(self) -> None:
        poller = polling.Poller()

        def end(_signal: int, _frame: FrameType | None) -> None:
            poller.stop.set()
            if poller.fetching:  # nothing is under way: what was not confirmed comes again
                raise SystemExit(0)

        for sent in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sent, end)
        try:
            polling.introduce()
        except MaxxitError as error:  # the menu is a help, not a need
            self.stderr.write(f"the menu of commands is not shown: {error}")
        poller.run()
