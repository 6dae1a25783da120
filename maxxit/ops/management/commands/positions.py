"""`manage.py positions`: read what the venues hold now, store it beside the ledger, and print it with P/L."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, duration
from maxxit.ops.holdings_table import print_holdings
from maxxit.ops.scopes import scope_given, scope_options
from maxxit.ops.watch import watch
from maxxit.reports.owners.holdings import holdings
from maxxit.reports.scope import Scope
from trading.reconciliation import cycle
from trading.reconciliation.checks import Kind


class Command(OpsCommand):
    help = (
        "Read what every account holds at its venue now, and show it beside the ledger with its value and P/L. With an "
        "option only those accounts are asked. What was opened elsewhere is AUTO_DISCOVERED and not traded; what is "
        "gone is zeroed out. Exit code 1 where an account could not be read."
    )
    epilog = """examples:
  manage.py positions
  manage.py positions --watch                 every 60 s until Ctrl-C
  manage.py positions --watch 10 --account paper:1        this account alone
  manage.py positions --stored                as last read, without asking the venues"""

    def options(self, parser: CommandParser, action: str) -> None:
        scope_options(parser)
        parser.add_argument(
            "--watch",
            type=duration,
            nargs="?",
            const=60.0,
            metavar="SECONDS",
            help="read again every SECONDS, or each minute, until Ctrl-C",
        )
        parser.add_argument(
            "--stored", action="store_true", help="show what was read last, without asking the venues"
        )

    def run(self, **options: Any) -> Any:
        scope = scope_given(options)
        seconds = options["watch"]
        return watch(
            self,
            options | {"watch": seconds is not None, "every": seconds or 60},
            lambda: self._show(scope, stored=options["stored"]),
        )

    def _show(self, scope: Scope, *, stored: bool) -> dict[str, Any]:
        numbers = {} if stored else cycle.run_now(kinds=[Kind.POSITIONS], accounts=scope.accounts())
        rows = holdings(scope)
        print_holdings(self, rows)
        if numbers:
            self.say(
                f"{numbers['accounts']} accounts read, {numbers['failed']} not read, {numbers['closed']} skipped: "
                "market closed"
            )
            self.exit_code = 1 if numbers["failed"] else 0
        return {"read": numbers, "holdings": [row.as_json() for row in rows]}
