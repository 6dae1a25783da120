"""`manage.py kill LEVEL --reason …`: pull the kill switch."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.console.ops import OpsCommand, by_option, operator
from trading import gate


class Command(OpsCommand):
    """See the module."""

    help = "Pull the kill switch. It latches until a person says `manage.py resume --reason …`. Exits always go on."

    def options(self, parser: CommandParser, action: str) -> None:
        """How hard and why."""
        parser.add_argument(
            "level",
            choices=gate.LEVELS,
            help="no_entries: nothing new is opened; reduce_only: nothing grows; flatten: every position is closed",
        )
        parser.add_argument("--reason", required=True, help="why; it is written down")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        """Pull it."""
        made = gate.kill(options["level"], by=operator(options["by"]), reason=options["reason"])
        self.say(f"latched: {gate.kill_level()}, from the next order on ({made.reason})", "ERROR")
        return {"id": made.pk, "level": gate.kill_level()}
