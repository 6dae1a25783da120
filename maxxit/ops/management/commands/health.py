"""`manage.py health`: one verdict on the machine and its failed checks; `--checklist` shows the operator's day."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand
from maxxit.reports.operators import checklist, health


class Command(OpsCommand):
    help = "Show whether the machine is healthy, with every failed check and its fix. Exit code 1 when one fails."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--checklist", action="store_true", help="show the operator's checklist with live ticks"
        )

    def run(self, **options: Any) -> Any:
        if options["checklist"]:
            return self._checklist()
        read = health.read_health()
        self.say(read.headline, "SUCCESS" if read.ok else "ERROR")
        for section in read.sections:
            for check in section.failed:
                self.say(f"  {section.name}: {check.name}: {check.detail}", "ERROR")
                if check.fix:
                    self.say(f"    fix: {check.fix}", "WARNING")
        self.exit_code = 0 if read.ok else 1
        return read.as_json()

    def _checklist(self) -> dict[str, Any]:
        parts = checklist.checklist()
        for part, ticks in parts.items():
            self.say(part)
            for tick in ticks:
                mark, colour = ("x", "") if tick.ok else (" ", "WARNING")
                self.say(f"  [{mark}] {tick.item}: {tick.detail}  (manage.py {tick.command})", colour)
        return {part: [tick.as_json() for tick in ticks] for part, ticks in parts.items()}
