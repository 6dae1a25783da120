"""`manage.py doctor`: is every part well, and if not, what to do."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports import checks


class Command(OpsCommand):
    failed = False
    help = "Check every dependency and every file of config/. Exit code 0 when all is well, 1 when something is not."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--quiet", action="store_true", help="only what is not well")

    def run(self, **options: Any) -> Any:
        found = list(checks.everything())
        wide = max(len(check.name) for check in found)
        for check in found:
            if check.ok and options["quiet"]:
                continue
            self.say(
                f"{'ok ' if check.ok else 'BAD'}  {check.name:<{wide}}  {check.detail}",
                "SUCCESS" if check.ok else "ERROR",
            )
            if check.fix:
                self.say(f"     {'':<{wide}}  fix: {check.fix}", "WARNING")
        bad = [check for check in found if not check.ok]
        self.failed = bool(bad)
        self.say(f"{len(bad)} of {len(found)} checks failed" if bad else f"all {len(found)} checks passed")
        return {"ok": not bad, "checks": [check.as_json() for check in found]}

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit code 1 when anything is not well, after everything was printed."""
        super().handle(*args, **options)
        if self.failed:
            sys.exit(1)
