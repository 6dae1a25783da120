"""The PnL of today so far, and the saved summaries of the last days (checklist C57, C58)."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import ZERO, plain, usdc
from maxxit.reports.scope import Scope
from positions.models import DailySummary
from positions.performance import figures, summary
from positions.performance.points import WORTH

SINCE = f"""
SELECT sum(worth.equity - worth.deposits - coalesce(before.equity - before.deposits, 0)),
       coalesce(sum(worth.deposits - coalesce(before.deposits, 0)), 0)
FROM ({WORTH}) AS worth
LEFT JOIN LATERAL (
    SELECT p.equity, p.deposits FROM equity_points p
    WHERE p.deployment_id = worth.deployment_id AND p.at <= %(since)s ORDER BY p.at DESC LIMIT 1
) AS before ON true
WHERE NOT worth.unpriced
"""  # noqa: S608 (constants only)
"""(PnL, net deposits) since a moment; the same as `summary.SAVE` computes of a day."""
WEEK = 7
"""Days of `week`, today included."""


@dataclass(frozen=True, slots=True)
class Today:
    """Results since midnight UTC. USD."""

    label: str
    since: datetime
    at: datetime
    realised: Decimal
    """Of the positions closed today, after fees and profit share."""
    unrealised: Decimal
    """Of the open positions at the newest quotes, before fees."""
    equity: Decimal
    deposits: Decimal
    """Deposited less withdrawn today."""
    day_pnl: Decimal | None
    """Change of equity since midnight less deposits, open positions included; None without a deployment."""
    closed: int
    winners: int
    average_win: Decimal
    average_loss: Decimal
    drawdown: Decimal
    """Max drawdown of today's realised PnL."""
    best: str
    worst: str
    fees: Decimal
    profit_share: Decimal
    buys: int
    sells: int
    volume: Decimal

    @property
    def total(self) -> Decimal:
        """Realised plus unrealised."""
        return self.realised + self.unrealised

    @property
    def win_rate(self) -> Decimal | None:
        """Winners as a fraction of the positions closed today; None without any."""
        return Decimal(self.winners) / self.closed if self.closed else None

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings in USD, rounded to USDC base units."""
        amounts = (
            "realised", "unrealised", "total", "equity", "deposits", "average_win", "average_loss", "drawdown",
            "fees", "profit_share", "volume",
        )  # fmt: skip
        rate = self.win_rate
        return (
            {"about": self.label, "since": iso_utc(self.since), "at": iso_utc(self.at)}
            | {f"{name}_usd": plain(usdc(getattr(self, name))) for name in amounts}
            | {
                "day_pnl_usd": None if self.day_pnl is None else plain(usdc(self.day_pnl)),
                "win_rate": None if rate is None else plain(rate.quantize(Decimal("0.0001"))),
            }
            | {name: getattr(self, name) for name in ("closed", "winners", "best", "worst", "buys", "sells")}
        )


def today(scope: Scope, *, traded: bool = True) -> Today:
    """Return the results of these deployments since midnight UTC.

    Args:
        traded: False leaves fills and volume at zero, for which every fill is read.
    """
    now = clock.now()
    since = figures.midnight(now)
    results = figures.figures(since, scope.deployments)
    fills: dict[str, Any] = {"buys": 0, "sells": 0, "volume_usd": "0"}
    if traded:
        fills = figures.volume(since, scope.deployments)
    equity = figures.equity(scope.deployments)
    day_pnl, deposits = _since(since, scope.deployments)
    return Today(
        label=scope.label,
        since=since,
        at=now,
        realised=results.realised - results.profit_share,
        unrealised=results.unrealised,
        equity=equity,
        deposits=deposits,
        day_pnl=day_pnl,
        closed=results.closed,
        winners=results.winners,
        average_win=results.average_win,
        average_loss=results.average_loss,
        drawdown=results.drawdown,
        best=results.best,
        worst=results.worst,
        fees=results.fees,
        profit_share=results.profit_share,
        buys=fills["buys"],
        sells=fills["sells"],
        volume=Decimal(fills["volume_usd"]),
    )


def _since(since: datetime, deployments: list[int] | None) -> tuple[Decimal | None, Decimal]:
    with connection.cursor() as cursor:
        cursor.execute(SINCE, {"since": since + summary.GRACE, "deployments": deployments})
        pnl, deposits = cursor.fetchone()
    return pnl, deposits


def saved(scope: Scope, days: int = WEEK, until: date | None = None) -> list[DailySummary]:
    """Return the saved summaries of the last `days` UTC days up to `until` (None: today), the newest first.

    Of the one deployment that `scope` names, or of all deployments together; for several, one row per day and
    deployment.
    """
    last = until or clock.now().date()
    rows = DailySummary.objects.filter(report_date__gt=last - timedelta(days=days), report_date__lte=last)
    rows = (
        rows.filter(deployment=None)
        if scope.deployments is None
        else rows.filter(deployment__in=scope.deployments)
    )
    return list(rows.order_by("-report_date", "deployment"))


def week(scope: Scope, days: int = WEEK) -> list[dict[str, Any]]:
    """Return the saved days as `summary.as_json` has them, those of several deployments added up, the newest first."""
    by_day: dict[date, list[DailySummary]] = {}
    for row in saved(scope, days):
        by_day.setdefault(row.report_date, []).append(row)
    return [_together(rows) for rows in by_day.values()]


def _together(rows: list[DailySummary]) -> dict[str, Any]:
    """Add up the summaries of one day."""
    if len(rows) == 1:
        return summary.as_json(rows[0])
    sums = {name: sum((getattr(row, name) for row in rows), ZERO) for name in summary.AMOUNTS}
    closed = sum(row.num_trades for row in rows)
    winners = sum(((row.win_rate or ZERO) * row.num_trades for row in rows), ZERO)
    ranked = sorted((row for row in rows if row.num_trades), key=lambda row: row.realized_pnl_usd)
    return {
        "report_date": rows[0].report_date.isoformat(),
        "deployment": None,
        **{name: plain(usdc(amount)) for name, amount in sums.items()},
        "win_rate": plain((winners / closed).quantize(Decimal("0.0001"))) if closed else None,
        "num_trades": closed,
        "best_symbol": ranked[-1].best_symbol if ranked else "",
        "worst_symbol": ranked[0].worst_symbol if ranked else "",
    }
