"""`manage.py revoke VENUE`: revoke the approvals of a venue."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, operator
from trading import gate


class Command(OpsCommand):
    help = "Revoke every approval of a venue, or of * (which covers all), from the next order on."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("scope", metavar="VENUE", help="a name from config/venues.yaml, or *")
        parser.add_argument(
            "--reason", default="revoked", help="why; recorded with the revocation (default: revoked)"
        )
        by_option(parser)

    def run(self, **options: Any) -> Any:
        count = gate.revoke(options["scope"], by=operator(options["by"]), reason=options["reason"])
        self.say(f"{count} approvals of {options['scope']} revoked")
        if gate.is_approved(options["scope"]):
            self.say(
                f"{options['scope']} is still approved: revoke * too, or delete {gate.APPROVAL_FILE}",
                "WARNING",
            )
        return {"revoked": count, "still_approved": gate.is_approved(options["scope"])}
