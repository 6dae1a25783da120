"""`manage.py gate open | close VENUE`: end or begin the dry run of one venue."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, by_option, operator
from maxxit.market.venues import venue_policy
from trading import gate
from trading.management.waiting import said_that_it_waits
from trading.operations import change_requests, changes
from trading.operations.change_requests import Asker
from trading.second_person import Kind


class Command(OpsCommand):
    help = (
        "End or begin the dry run of a venue. Ending that of real money needs a second person. "
        "`paper status` shows all."
    )
    subcommands = {
        "open": "end the dry run: orders leave once the venue is approved too (`manage.py approve`)",
        "close": "begin the dry run at once: no order leaves, not even one that closes a position",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("venue", metavar="VENUE", help="a name from config/venues.yaml")
        parser.add_argument("--reason", required=True, help="why; recorded with the change")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        venue, by, reason = options["venue"], operator(options["by"]), options["reason"]
        venue_policy(venue)
        if options["action"] == "close":
            gate.set_dry_run(venue, True, by=by, reason=reason)
            self.say(f"dry run of {venue} is on: nothing leaves", "SUCCESS")
        else:
            asked = change_requests.ask(Kind.OPEN_GATE, changes.open_gate(venue), by=Asker(by), reason=reason)
            if asked.request:
                return said_that_it_waits(self, asked.request)
            self.say(f"dry run of {venue} is off", "SUCCESS")
            if not gate.is_approved(venue):
                self.say(f"nothing leaves until `manage.py approve {venue} --reason …`", "WARNING")
        facts = gate.read(venue)
        return {"venue": venue, "dry_run": facts.dry_run, "approved": facts.approved}
