"""`manage.py portfolio`: what each deployment holds, and its open positions."""

from decimal import Decimal
from typing import Any

from agents.models import Deployment
from maxxit.core.commands import OpsCommand
from maxxit.core.money import brief, plain, usdc
from maxxit.reports.schemas import PositionOut
from positions import figures
from positions.models import Position
from positions.performance import with_unrealised
from trading import ledger


class Command(OpsCommand):
    help = "Show what each deployment holds by the ledger, and every open position at the newest quotes. Times are UTC."

    def run(self, **options: Any) -> Any:
        deployments: list[dict[str, Any]] = []
        for one in Deployment.objects.exclude(state="draft").select_related("agent").order_by("pk"):
            held = {
                asset: plain(amount) for asset, amount in sorted(ledger.balances(one.pk).items()) if amount
            }
            deployments.append(
                {"deployment": one.pk, "agent": one.agent.name, "account": one.account, "holds": held}
            )
        self.table(
            ("deployment", "agent", "account", "holds"),
            [
                (
                    one["deployment"],
                    one["agent"],
                    one["account"],
                    _held(one["holds"]),
                )
                for one in deployments
            ],
        )
        self.say()
        rows = (
            with_unrealised(Position.objects.exclude(state="closed"))
            .select_related("deployment")
            .order_by("pk")
        )
        found = list(rows)
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
                for row in found
            ],
        )
        equity = figures.equity()
        self.say(f"equity {equity:,.2f} USD")
        told = [PositionOut.from_orm(row).model_dump(mode="json") for row in found]
        return {"equity_usd": plain(usdc(equity)), "deployments": deployments, "positions": told}


def _held(holds: dict[str, str]) -> str:
    return "  ".join(f"{amount} {asset}" for asset, amount in holds.items())


def _signed(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:+.2f}"
