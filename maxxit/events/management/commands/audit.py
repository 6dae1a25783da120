"""`manage.py audit verify | seal | list`: the seals of the audit log."""

import re
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core import clock
from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import Rejected
from maxxit.events import seals
from maxxit.events.models import EventSeal


class Command(OpsCommand):
    help = "Verify that no event and no change in the admin was altered since it was sealed. Times are UTC."
    subcommands = {
        "verify": "compute the seals anew from the rows and compare; exit code 1 where a row was changed",
        "seal": "seal the rows that are new (a job does it every five minutes)",
        "list": "list the newest seals; note a head elsewhere, and verify with it later",
    }

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "verify":
            parser.add_argument("--head", default="", help="a head that was noted: also look for its seal")
            parser.add_argument("--days", type=count, help="only the seals of so many days (default: all)")
        if action == "list":
            parser.add_argument("-n", type=count, default=20, help="how many (default 20)")

    def run(self, **options: Any) -> Any:
        return getattr(self, f"_{options['action']}")(options)

    def _verify(self, options: dict[str, Any]) -> Any:
        head = options["head"].strip().lower()
        if head and not re.fullmatch("[0-9a-f]{64}", head):
            raise Rejected(f"--head: {options['head']!r} is not a SHA-256 of 64 hex digits", code="no_hash")
        noted = seals.check_head(head) if head else None
        if noted:
            self.say(f"the head is that of the seal of {noted.at:%Y-%m-%d %H:%M:%S}: {noted}", "SUCCESS")
        since = clock.now() - timedelta(days=options["days"]) if options["days"] else None
        audits = list(seals.verify(since))
        for audit in audits:
            for problem in audit.problems:
                self.say(f"{audit.log}: {problem}", "ERROR")
            if not audit.problems:
                self.say(
                    f"{audit.log}: {audit.rows:,} rows in {audit.seals} seals are unchanged; {audit.unsealed} are not "
                    f"sealed yet; head {audit.head}",
                    "SUCCESS",
                )
        self.exit_code = int(any(audit.problems for audit in audits))
        return [audit.as_json() for audit in audits]

    def _seal(self, options: dict[str, Any]) -> Any:
        made = seals.seal()
        for one in made:
            self.say(f"{one.log}: sealed {one.rows} rows up to {one.last_id}, head {one.head}", "SUCCESS")
        if not made:
            self.say("no row is new")
        return [{"log": one.log, "rows": one.rows, "last_id": one.last_id, "head": one.head} for one in made]

    def _list(self, options: dict[str, Any]) -> Any:
        found = list(EventSeal.objects.all()[: options["n"]])
        self.table(
            ("seal", "at (UTC)", "log", "rows", "up to", "head"),
            [(one.pk, one.at, one.log, one.rows, one.last_id, one.head) for one in found],
        )
        return [
            {
                "id": one.pk,
                "at": one.at,
                "log": one.log,
                "rows": one.rows,
                "last_id": one.last_id,
                "head": one.head,
            }
            for one in found
        ]
