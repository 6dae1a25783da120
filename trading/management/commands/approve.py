"""`manage.py approve VENUE`: a person lets orders leave, for a time."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, clock_text, duration, operator
from maxxit.market.venues import venue_policy
from trading import gate
from trading.approvals import EXPIRING


class Command(OpsCommand):
    help = "Approve that orders of a venue (or * for all) leave, for some hours. Its dry run must be off as well."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("scope", metavar="VENUE", help="a name from config/venues.yaml, or * for all")
        parser.add_argument("--hours", type=duration, default=8, help="how long it holds (default 8)")
        parser.add_argument("--reason", required=True, help="why; it is written down")
        by_option(parser)

    def run(self, **options: Any) -> Any:
        scope = options["scope"]
        if scope != "*":
            venue_policy(scope)
        until = clock.now() + timedelta(hours=options["hours"])
        made = gate.approve(scope, by=operator(options["by"]), until=until, reason=options["reason"])
        self.say(
            f"{scope} is approved until {clock_text(made.expires_at)} UTC by {made.approved_by}; {EXPIRING}",
            "SUCCESS",
        )
        if scope != "*" and gate.read(scope).dry_run:
            self.say("its gate is still closed by dry run: `manage.py paper status` shows it", "WARNING")
        return {"id": made.pk, "scope": scope, "until": iso_utc(made.expires_at), "by": made.approved_by}
