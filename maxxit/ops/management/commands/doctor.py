"""`manage.py doctor`: run all health checks, and print the fix of each failed one."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports import audit, backups, checks


class Command(OpsCommand):
    failed = False
    help = "Check every dependency and every file of config/. Exit code 0 when all checks pass, 1 when one fails."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("--quiet", action="store_true", help="show failed checks only")

    def run(self, **options: Any) -> Any:
        results = [
            *checks.everything(),
            *checks.readable("backup", backups.check_backups, "see postgres"),
            *checks.readable(audit.NAME, lambda: [audit.check_audit_log()], "see postgres"),
        ]
        wide = max(len(check.name) for check in results)
        for check in results:
            if check.ok and options["quiet"]:
                continue
            self.say(
                f"{'ok ' if check.ok else 'BAD'}  {check.name:<{wide}}  {check.detail}",
                "SUCCESS" if check.ok else "ERROR",
            )
            if check.fix:
                self.say(f"     {'':<{wide}}  fix: {check.fix}", "WARNING")
        failed = [check for check in results if not check.ok]
        self.failed = bool(failed)
        self.say(
            f"{len(failed)} of {len(results)} checks failed"
            if failed
            else f"all {len(results)} checks passed"
        )
        return {"ok": not failed, "checks": [check.as_json() for check in results]}

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit with code 1 when a check failed, after all were printed."""
        super().handle(*args, **options)
        if self.failed:
            sys.exit(1)
