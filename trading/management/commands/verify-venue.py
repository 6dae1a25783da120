"""`manage.py verify-venue NAME`: show accounts at a venue, what their keys may do and their cash; no trade."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import count
from maxxit.market.venues import venue_policy
from trading.management.verification import VerificationCommand


class Command(VerificationCommand):
    help = (
        "Show accounts at a venue, what their keys may do and their cash. Exit code 1 if one may not trade."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("venue", help="its name in config/venues.yaml")
        parser.add_argument(
            "deployment", type=count, nargs="?", help="its id (default: all that are not revoked)"
        )

    def run(self, **options: Any) -> Any:
        venue_policy(options["venue"])
        return self.verify([options["venue"]], options["deployment"])
