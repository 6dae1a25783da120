"""`manage.py portfolio`: each deployment's balances and open positions, what venues hold, and today's PnL."""

from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.commands import OpsCommand
from maxxit.core.money import brief, plain, usdc
from maxxit.ops.holdings_table import MARGIN_HEAD, margin_cells, print_holdings
from maxxit.ops.scopes import scope_given, scope_options
from maxxit.ops.watch import watch, watch_options
from maxxit.reports.owners.holdings import holdings
from maxxit.reports.schemas import PositionOut
from maxxit.reports.scope import Scope
from positions.margins import attach
from positions.models import Position
from positions.performance import figures
from positions.performance.equity import total_equity, with_unrealised
from trading import ledger


class Command(OpsCommand):
    help = "Show what each deployment and its venue hold, open positions at new quotes, equity and PnL. Times are UTC."
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
        positions = attach(unclosed.select_related("deployment", "entry_order").order_by("pk"))
        margin = any(row.margin for row in positions)
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
                *(MARGIN_HEAD if margin else ()),
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
                    *(margin_cells(row.margin) if margin else ()),
                )
                for row in positions
            ],
        )
        at_venues = holdings(scope)
        self.say()
        self.say("at the venues, as last read (`manage.py positions` reads them now):")
        print_holdings(self, at_venues)
        self.say()
        equity = total_equity(scope.deployments)
        today = figures.figures(figures.midnight(clock.now()), scope.deployments)
        realised = today.realised - today.profit_share
        self.say(f"equity {equity:,.2f} USD")
        self.say(
            f"PnL today {realised + today.unrealised:+,.2f} USD: realised {realised:+,.2f}, unrealised "
            f"{today.unrealised:+,.2f}"
        )
        listed = [PositionOut.from_orm(row).model_dump(mode="json") for row in positions]
        return {
            "equity_usd": plain(usdc(equity)),
            "realised_today_usd": plain(usdc(realised)),
            "unrealised_usd": plain(usdc(today.unrealised)),
            "deployments": deployments,
            "positions": listed,
            "venues": [row.as_json() for row in at_venues],
        }


def _held(holds: dict[str, str]) -> str:
    return "  ".join(f"{amount} {asset}" for asset, amount in holds.items())


def _signed(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:+.2f}"
