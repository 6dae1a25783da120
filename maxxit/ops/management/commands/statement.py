"""`manage.py statement DEPLOYMENT`: the account statement of a deployment between two days."""

import csv
from typing import Any

from django.core.management.base import CommandParser

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.commands import OpsCommand, clock_text, count
from maxxit.core.errors import Rejected
from maxxit.core.money import brief, plain
from maxxit.ops.holdings_table import MARGIN_HEAD, margin_cells
from maxxit.reports.activity import feed
from maxxit.reports.statement import BEGINNING, Balances, check_span, statement


class Command(OpsCommand):
    help = "Print a deployment's ledger between two days (UTC): opening balances, entries, closing balances, totals."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("deployment", type=count, help="number; `manage.py portfolio` lists them")
        parser.add_argument(
            "--from", dest="since", metavar="DATE", help="UTC date or ISO time (default: the first entry)"
        )
        parser.add_argument("--to", dest="until", metavar="DATE", help="last day, or ISO time (default: now)")
        parser.add_argument("--csv", action="store_true", help="write the entries as CSV to stdout")

    def run(self, **options: Any) -> Any:
        if options["csv"] and options["json"]:
            raise Rejected("--csv and --json both write to stdout: give one of them", code="csv_and_json")
        deployment = Deployment.objects.filter(pk=options["deployment"]).first()
        if deployment is None:
            raise Rejected(
                f"there is no deployment {options['deployment']}: `manage.py portfolio` lists them",
                code="unknown",
            )
        since = feed.moment("--from", options["since"] or "")
        until = feed.moment("--to", options["until"] or "", after=True)
        check_span(since, until)
        ledger = statement(deployment, since or BEGINNING, until or clock.now())
        summary = ledger.as_json()
        if options["csv"]:
            if summary["lines"]:
                out = csv.DictWriter(self.stdout, list(summary["lines"][0]))
                out.writeheader()
                out.writerows(summary["lines"])
            return summary
        self.say(f"deployment {deployment.pk}, {deployment.account}, to {clock_text(ledger.until)} UTC")
        self.say(f"opening: {_text(ledger.opening)}")
        self.table(
            ("at (UTC)", "book", "kind", "what", "asset", "amount", "balance"),
            [
                (
                    line.at,
                    line.book,
                    line.kind,
                    line.what,
                    line.asset,
                    plain(line.amount),
                    plain(line.balance),
                )
                for line in ledger.lines
            ],
        )
        self.say(f"closing: {_text(ledger.closing)}")
        totals = "  ".join(
            f"{total['kind']} {total['amount']} {total['asset']}" for total in summary["totals"]
        )
        self.say(f"totals:  {totals or 'none'}")
        if ledger.margin:
            self.say("positions with margin:")
            self.table(
                ("position", "what", "state", *MARGIN_HEAD),
                [
                    (
                        row.pk,
                        f"{row.side} {brief(row.quantity)} {row.symbol}",
                        row.state,
                        *margin_cells(row.margin),
                    )
                    for row in ledger.margin
                ],
            )
        return summary


def _text(balances: Balances) -> str:
    amounts = (f"{plain(amount)} {asset} {book}" for (book, asset), amount in sorted(balances.items()))
    return "  ".join(amounts) or "none"
