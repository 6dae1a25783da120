"""`manage.py transactions`: the chain outbox with states, attempts, fees and age, newest first."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.clock import duration_text
from maxxit.core.commands import OpsCommand, count
from maxxit.core.money import brief
from maxxit.reports.operators import transactions


class Command(OpsCommand):
    help = "List the chain transactions of the outbox: state, attempts, fees and age, newest first."

    def options(self, parser: CommandParser, action: str) -> None:
        known = [transactions.UNDER_WAY, *map(str, transactions.TxState)]
        parser.add_argument("--state", default="", choices=known, help="only these (default: all)")
        parser.add_argument(
            "--limit", type=count, default=20, help=f"how many (default 20, at most {transactions.MOST})"
        )

    def run(self, **options: Any) -> Any:
        page = transactions.transactions(state=options["state"], limit=options["limit"])
        self.table(
            ("id", "what", "chain", "nonce", "state", "reason", "age", "attempts", "max fee (gwei)", "paid"),
            [
                (
                    row.id, row.purpose, row.chain, row.nonce, row.state, row.reason, duration_text(row.age_seconds),
                    row.attempts, row.max_fee_gwei and brief(row.max_fee_gwei),
                    row.paid and f"{brief(row.paid)} {row.coin}",
                )
                for row in page.rows
            ],
        )  # fmt: skip
        return {"transactions": [row.as_json() for row in page.rows], "under_way": page.counts}
