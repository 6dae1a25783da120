"""`manage.py verify-alpaca`: `verify-venue` for every venue with the adapter alpaca."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import count
from maxxit.market import venues
from trading.management.verification import VerificationCommand


class Command(VerificationCommand):
    help = "Show accounts at Alpaca, what their keys may do and the exchange's hours. Exit code 1 if one may not trade."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "deployment", type=count, nargs="?", help="its id (default: all that are not revoked)"
        )

    def run(self, **options: Any) -> Any:
        names = [name for name, stanza in venues.venues().items() if stanza.adapter == "alpaca"]
        if not names:
            self.say(
                "config/venues.yaml has no venue with the adapter alpaca: docs/alpaca.md shows one", "WARNING"
            )
            return []
        return self.verify(names, options["deployment"])
