"""`manage.py trades`: the newest orders with state and reason."""

from typing import Any

from django.core.management.base import CommandParser

from maxxit.core.commands import OpsCommand, count
from maxxit.core.money import brief
from maxxit.reports.schemas import OrderOut
from trading.models import Order
from trading.states import OrderState


class Command(OpsCommand):
    help = "List the newest orders with their state and reason. Times are UTC."

    def options(self, parser: CommandParser, action: str) -> None:
        parser.add_argument(
            "--status", type=str.lower, choices=[str(state) for state in OrderState], help="only this state"
        )
        parser.add_argument("-n", type=count, default=20, help="how many (default 20)")

    def run(self, **options: Any) -> Any:
        rows = Order.objects.order_by("-pk")
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
