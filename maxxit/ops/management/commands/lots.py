"""`manage.py lots --csv`: FIFO lots for accountants."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, count
from maxxit.core.errors import Rejected
from maxxit.ops.csv_file import csv_option, write_csv
from maxxit.ops.scopes import scope_given, scope_options
from maxxit.reports.activity import feed
from maxxit.reports.owners import exports


class Command(OpsCommand):
    help = (
        "Write the FIFO lots closed in a span as CSV, for accountants. Columns: dates acquired and sold, quantity, "
        "proceeds, cost, fees, gain, opening and closing transaction. Times are UTC, amounts USDC."
    )
    epilog = """examples:
  manage.py lots --csv lots-2026.csv --year 2026         every deployment, lots closed in 2026
  manage.py lots --csv - --deployment 7 > lots.csv       one deployment, all lots"""

    def options(self, parser: CommandParser, action: str) -> None:
        csv_option(parser, default="-")
        scope_options(parser)
        parser.add_argument("--year", type=count, help="lots closed in this UTC year")
        parser.add_argument(
            "--since", metavar="DATE", help="lots closed at this UTC date or ISO time, or later"
        )
        parser.add_argument("--until", metavar="DATE", help="last day, or ISO time (default: now)")

    def run(self, **options: Any) -> Any:
        since = feed.moment("--since", options["since"] or "")
        until = feed.moment("--until", options["until"] or "", after=True)
        if options["year"]:
            if since or until:
                raise Rejected("give --year, or --since and --until", code="no_span")
            if not 2000 <= options["year"] <= 2100:
                raise Rejected(f"no year {options['year']}: give one as 2026", code="no_date")
            since, until = exports.year(options["year"])
        return write_csv(self, options, exports.lots_csv(scope_given(options), since, until))
