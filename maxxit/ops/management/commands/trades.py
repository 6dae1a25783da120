"""`manage.py trades`: the newest orders with state and reason, or the trades as CSV."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, count
from maxxit.core.money import brief
from maxxit.ops.csv_file import csv_option, write_csv
from maxxit.ops.scopes import scope_given, scope_options, span_given, span_options
from maxxit.reports.owners import exports
from maxxit.reports.schemas import OrderOut
from trading.models import Order
from trading.states import OrderState


class Command(OpsCommand):
    help = "List the newest orders with their state and reason, or export trades (entry to exit) as CSV. Times are UTC."
    epilog = """examples:
  manage.py trades --status blocked -n 50
  manage.py trades --csv trades.csv --deployment 7 --period 30d
  manage.py trades --csv - --account @cobie > cobie.csv"""

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--status", type=str.lower, choices=[str(state) for state in OrderState], help="only this state"
        )
        parser.add_argument("-n", type=count, default=20, help="how many (default 20)")
        csv_option(parser)
        scope_options(parser, authors=True)
        span_options(parser)

    def run(self, **options: Any) -> Any:
        scope = scope_given(options, authors=True)
        since, until = span_given(options)
        if options["csv"]:
            return write_csv(self, options, exports.trades_csv(scope, since, until))
        rows = Order.objects.order_by("-pk")
        if scope.deployments is not None:
            rows = rows.filter(deployment__in=scope.deployments)
        if scope.author is not None:
            rows = rows.filter(signal__posts__account=scope.author).distinct()
        if since:
            rows = rows.filter(created_at__gte=since)
        if until:
            rows = rows.filter(created_at__lt=until)
        if options["status"]:
            rows = rows.filter(state=options["status"])
        orders = list(rows[: options["n"]])
        self.table(
            ("order", "at (UTC)", "account", "what", "quantity", "price (USD)", "state", "reason"),
            [
                (
                    row.pk,
                    row.created_at,
                    row.account,
                    f"{row.purpose} {row.side} {row.symbol}",
                    row.quantity and brief(row.quantity),
                    row.average_price and brief(row.average_price),
                    row.state,
                    row.reason or row.exit_reason,
                )
                for row in orders
            ],
        )
        return {"orders": [OrderOut.from_orm(row).model_dump(mode="json") for row in orders]}
