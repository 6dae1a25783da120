"""`manage.py statement DEPLOYMENT`: its ledger between two days, with balances."""

import csv
from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.commands import OpsCommand, clock_text
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.reports.statement import BEGINNING, Balances, check_span, statement


class Command(OpsCommand):
    help = "Print a deployment's ledger between two days (UTC): opening balances, entries, closing balances, totals."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument("deployment", type=int, help="its number; `manage.py portfolio` lists them")
        parser.add_argument(
            "--from", dest="since", metavar="DATE", help="UTC date or ISO time (default: ever)"
        )
        parser.add_argument(
            "--to", dest="until", metavar="DATE", help="the last day, or an ISO time (default: now)"
        )
        parser.add_argument(
            "--csv", action="store_true", help="the lines as CSV on stdout, for a spreadsheet"
        )

    def run(self, **options: Any) -> Any:
        owner = Deployment.objects.filter(pk=options["deployment"]).first()
        if owner is None:
            raise Rejected(
                f"there is no deployment {options['deployment']}: `manage.py portfolio` lists them",
                code="unknown",
            )
        since, until = _moment(options["since"]), _moment(options["until"], after=True)
        check_span(since, until)
        found = statement(owner, since or BEGINNING, until or clock.now())
        told = found.as_json()
        if options["csv"]:
            if told["lines"]:
                out = csv.DictWriter(self.stdout, list(told["lines"][0]))
                out.writeheader()
                out.writerows(told["lines"])
            return told
        self.say(f"deployment {owner.pk}, {owner.account}, to {clock_text(found.until)} UTC")
        self.say(f"opening: {_words(found.opening)}")
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
                for line in found.lines
            ],
        )
        self.say(f"closing: {_words(found.closing)}")
        moved = "  ".join(f"{one['kind']} {one['amount']} {one['asset']}" for one in told["totals"])
        self.say(f"moved:   {moved or 'nothing'}")
        return told


def _moment(text: str | None, *, after: bool = False) -> datetime | None:
    if not text:
        return None
    try:
        return clock.day(text, after=after)
    except ValueError:
        raise Rejected(f"{text!r} is no date: give 2026-01-31 or 2026-01-31T12:00", code="no_date") from None


def _words(balances: Balances) -> str:
    told = (f"{plain(amount)} {asset} {book}" for (book, asset), amount in sorted(balances.items()))
    return "  ".join(told) or "nothing"
