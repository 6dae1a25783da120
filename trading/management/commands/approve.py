"""`manage.py approve VENUE`: allow orders to be sent to a venue until the approval expires, or ask for it."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, clock_text, duration, operator, time_ahead
from maxxit.market.venues import venue_policy
from trading import gate
from trading.management.waiting import said_that_it_waits
from trading.models import Approval
from trading.operations import change_requests, changes
from trading.operations.approvals import EXPIRING
from trading.operations.change_requests import Asker
from trading.second_person import Kind


class Command(OpsCommand):
    help = (
        "Approve that orders are sent to a venue (or * for all) for some hours. Its dry run must be off as well. "
        "A venue of real money needs a second person: the command asks, and the page Change requests decides."
    )

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("scope", metavar="VENUE", help="a name from config/venues.yaml, or * for all")
        parser.add_argument("--hours", type=duration, default=8, help="hours until it expires (default 8)")
        parser.add_argument("--reason", required=True, help="why; recorded with the approval")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        scope = options["scope"]
        if scope != "*":
            venue_policy(scope)
        until = time_ahead(hours=options["hours"])
        asked = change_requests.ask(
            Kind.APPROVE_ORDERS,
            changes.approve_orders(scope, until),
            by=Asker(operator(options["by"])),
            reason=options["reason"],
        )
        if asked.request:
            return said_that_it_waits(self, asked.request)
        approval: Approval = asked.result
        self.say(
            f"{scope} is approved until {clock_text(approval.expires_at)} UTC by {approval.approved_by}; {EXPIRING}",
            "SUCCESS",
        )
        if scope != "*" and gate.read(scope).dry_run:
            self.say(
                f"the gate of {scope} is still closed: dry run is on (`manage.py paper status`)", "WARNING"
            )
        return {
            "id": approval.pk,
            "scope": scope,
            "until": iso_utc(approval.expires_at),
            "by": approval.approved_by,
        }
