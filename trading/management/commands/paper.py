"""`manage.py paper on | off | status`: open or close the gates of the paper venues, or show every gate."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, by_option, clock_text, count, operator, time_ahead
from maxxit.core.errors import Rejected
from maxxit.market.venues import venues
from trading import gate, wiring
from trading.models import Approval, Gate
from trading.operations.approvals import EXPIRED

SHOWN = ("money", "venue", "dry_run", "approved", "orders_leave", "exits_leave")


class Command(OpsCommand):
    help = (
        "Open or close the gate of the paper venues, or show the state of every gate. Money is not touched."
    )
    subcommands = {
        "on": "send paper orders: dry run off, and approved for some days",
        "off": "send no paper order: dry run on, approvals revoked",
        "status": "show every gate, approvals and the kill switch; times are UTC",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "status":
            return
        by_option(parser)
        parser.add_argument(
            "--reason",
            default=f"paper {action}",
            help=f"why; recorded with the change (default: paper {action})",
        )
        if action == "on":
            parser.add_argument(
                "--days", type=count, default=365, help="days until the approval expires (default 365)"
            )

    def run(self, **options: Any) -> Any:
        names = [name for name, venue in venues().items() if venue.paper]
        if options["action"] != "status" and not names:
            raise Rejected("config/venues.yaml has no venue with `paper: true`: add one")
        if options["action"] != "status":
            self._switch(names, options)
        return self._status()

    @transaction.atomic
    def _switch(self, names: list[str], options: dict[str, Any]) -> None:
        by, reason = operator(options["by"]), options["reason"]
        for name in names:
            gate.set_dry_run(name, options["action"] == "off", by=by, reason=reason)
            if options["action"] == "on":
                gate.approve(name, by=by, until=time_ahead(days=options["days"]), reason=reason)
            else:
                gate.revoke(name, by=by, reason=reason)

    def _status(self) -> Any:
        now, open_now = clock.now(), gate.open_venues()
        known = {row.venue: row for row in Gate.objects.all()}
        standing = list(Approval.objects.filter(revoked_at=None, expires_at__gt=now).order_by("pk"))
        gates = []
        for name, venue in venues().items():
            row, now_facts = known.get(name), gate.read(name)
            gates.append(
                {
                    "venue": name,
                    "paper": venue.paper,
                    "money": wiring.money_at_stake(venue),
                    "dry_run": row is None or row.dry_run,
                    "approved": now_facts.approved,
                    "expired": now_facts.expired,
                    "orders_leave": name in open_now and now_facts.approved and not gate.kill_level(),
                    "exits_leave": name in open_now,
                }
            )
        rows = [[one[name] for name in SHOWN] for one in gates]
        self.table(("money", "venue", "dry run", "approved", "entries leave", "exits leave"), rows)
        for venue_row in gates:
            if venue_row["expired"] and not venue_row["dry_run"]:
                self.say(f"{venue_row['venue']}: its approval expired: {EXPIRED}", "WARNING")
        for one in standing:
            self.say(
                f"approval of {one.scope} by {one.approved_by} until {clock_text(one.expires_at)} UTC: {one.reason}"
            )
        level = gate.kill_level()
        self.say(f"kill switch: {level or 'not pulled'}", "ERROR" if level else "")
        approvals = [
            {
                "scope": one.scope,
                "by": one.approved_by,
                "until": iso_utc(one.expires_at),
                "reason": one.reason,
            }
            for one in standing
        ]
        return {"venues": gates, "approvals": approvals, "kill_switch": level}
