"""`manage.py follow AGENT ACCOUNT …`."""

from typing import Any

from django.core.management.base import CommandParser

from agents import following
from agents.describe import agent_named
from agents.management.commands.accounts import show_answers
from maxxit.core.commands import OpsCommand, by_option, operator


class Command(OpsCommand):
    help = (
        "Let an agent follow accounts, which are added where they are not known. One bad name stops no other."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("agent", help="its id or name")
        parser.add_argument("accounts", nargs="+", metavar="ACCOUNT", help="user names, with or without @")
        parser.add_argument("--source", default="", help="the post source that reads new accounts")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        agent, by = agent_named(options["agent"]), operator(options["by"])
        answers = following.follow(agent, options["accounts"], options["source"], by=by)
        return show_answers(self, answers)
