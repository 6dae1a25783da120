"""`manage.py portfolio`: each deployment's balances and open positions."""

from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from agents.models import Deployment
from maxxit.core.commands import OpsCommand
from maxxit.core.money import brief, plain, usdc
from maxxit.ops.scopes import scope_given, scope_options
from maxxit.ops.watch import watch, watch_options
from maxxit.reports.schemas import PositionOut
from maxxit.reports.scope import Scope
from positions.models import Position
from positions.performance.equity import total_equity, with_unrealised
from trading import ledger


class Command(OpsCommand):
    help = "Show what each deployment holds by the ledger, and every open position at the newest quotes. Times are UTC."
    epilog = """examples:
  manage.py portfolio --deployment 7
  manage.py portfolio --watch --every 5       refreshed every 5 s until Ctrl-C"""

    def options(self, parser: CommandParser, action: str) -> None:
        scope_options(parser)
        watch_options(parser)

    def run(self, **options: Any) -> Any:
        scope = scope_given(options)
        return watch(self, options, lambda: self._show(scope))

    def _show(self, scope: Scope) -> dict[str, Any]:
        deployments: list[dict[str, Any]] = []
        rows = Deployment.objects.exclude(state="draft").select_related("agent").order_by("pk")
        for row in rows if scope.deployments is None else rows.filter(pk__in=scope.deployments):
            held = {
                asset: plain(amount) for asset, amount in sorted(ledger.balances(row.pk).items()) if amount
            }
            deployments.append(
                {"deployment": row.pk, "agent": row.agent.name, "account": row.account, "holds": held}
            )
        self.table(
            ("deployment", "agent", "account", "holds"),
            [
                (line["deployment"], line["agent"], line["account"], _held(line["holds"]))
                for line in deployments
            ],
        )
        self.say()
        unclosed = with_unrealised(Position.objects.exclude(state="closed"))
        if scope.deployments is not None:
            unclosed = unclosed.filter(deployment__in=scope.deployments)
        positions = list(unclosed.select_related("deployment").order_by("pk"))
        self.table(
            (
                "position",
                "opened (UTC)",
                "account",
                "what",
                "entry (USD)",
                "stop",
                "target",
                "unrealised (USDC)",
            ),
            [
                (
                    row.pk,
                    row.opened_at,
                    row.deployment.account,
                    f"{row.side} {brief(row.quantity)} {row.symbol}",
                    brief(row.entry_price),
                    plain(row.stop_loss),
                    plain(row.take_profit),
                    _signed(getattr(row, "unrealised", None)),
                )
                for row in positions
            ],
        )
        equity = total_equity(scope.deployments)
        self.say(f"equity {equity:,.2f} USD")
        listed = [PositionOut.from_orm(row).model_dump(mode="json") for row in positions]
        return {"equity_usd": plain(usdc(equity)), "deployments": deployments, "positions": listed}


def _held(holds: dict[str, str]) -> str:
    return "  ".join(f"{amount} {asset}" for asset, amount in holds.items())


def _signed(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:+.2f}"
