"""Figures of closed and open positions: PnL, win rate, drawdown, fees.

`deployments` limits a figure to these ids; None means the whole platform. Amounts are USDC unless USD is named.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Count, Model, QuerySet, Sum

from maxxit.core import clock
from maxxit.core.money import ZERO, plain, usdc
from positions.models import Position
from positions.performance.equity import total_equity, with_unrealised
from positions.performance.parts import Part, breakdown
from positions.performance.pnl import cvar_95, max_drawdown
from positions.states import PositionState
from trading.models import Fill, Order
from trading.states import OrderState

M = TypeVar("M", bound=Model)
Deployments = list[int] | None
CENT = Decimal("0.01")


def midnight(moment: datetime) -> datetime:
    """Return the start of the moment's UTC day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Figures:
    """Results of the positions closed since a moment, and of those open now. Amounts in USDC."""

    since: datetime | None
    realised: Decimal
    unrealised: Decimal
    fees: Decimal
    profit_share: Decimal
    closed: int
    winners: int
    """Positions with a profit after all costs, the profit share included, as are the averages."""
    average_win: Decimal
    average_loss: Decimal
    drawdown: Decimal
    """Max drawdown of the realised PnL."""
    best: str
    worst: str
    """Symbols with the highest and the lowest realised PnL; empty without a closed position."""
    cvar_95_pct: Decimal | None
    """Mean loss of the worst 5 % of the newest SINGLY closed positions, percent of their entry; None for too few."""

    @property
    def total(self) -> Decimal:
        """Realised plus unrealised PnL, USDC."""
        return self.realised + self.unrealised

    @property
    def win_rate(self) -> Decimal:
        """Winners as a fraction of the closed positions; 0 without any."""
        return (Decimal(self.winners) / self.closed).quantize(Decimal("0.0001")) if self.closed else ZERO

    def as_json(self) -> dict[str, Any]:
        """Amounts as decimal strings."""
        names = (
            "realised",
            "unrealised",
            "total",
            "fees",
            "profit_share",
            "average_win",
            "average_loss",
            "drawdown",
        )
        values: dict[str, Any] = {f"{name}_usdc": plain(usdc(getattr(self, name))) for name in names}
        values |= {"since": self.since.isoformat() if self.since else None, "win_rate": plain(self.win_rate)}
        values |= {name: getattr(self, name) for name in ("closed", "winners", "best", "worst")}
        values["cvar_95_pct"] = None if self.cvar_95_pct is None else plain(self.cvar_95_pct.quantize(CENT))
        return values


BY_SYMBOL = """
SELECT symbol, sum(realised_pnl)
FROM positions
WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND closed_at >= %(since)s
GROUP BY 1 ORDER BY 1
"""
NEWEST = """
SELECT closed_at, realised_pnl, profit_share, entry_price * quantity
FROM positions
WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND (%(since)s::timestamptz IS NULL OR closed_at >= %(since)s)
ORDER BY closed_at DESC, id DESC LIMIT %(most)s
"""
SINGLY = 2_000
"""The newest closed positions are read one by one up to this number; older ones are summed by day."""


@dataclass(frozen=True, slots=True)
class Results:
    """Closed positions in order of time: sums by UTC day, and the newest ones singly."""

    days: list[Part]
    by_symbol: dict[str, Decimal]
    """Symbol -> realised PnL, USDC."""
    newest: list[tuple[datetime, Decimal, Decimal, Decimal]]
    """(closed at, realised PnL, profit share, cost of the entry) in USDC, at most SINGLY."""

    def steps(self) -> list[tuple[datetime, Decimal, Decimal]]:
        """List (moment, realised PnL, profit share): older positions by day at its end, the newest ones singly."""
        if len(self.newest) < SINGLY:
            return [(at, pnl, share) for at, pnl, share, _ in self.newest]
        singly = self.newest[0][0].astimezone(UTC).date() + timedelta(days=1)
        days = [(date.fromisoformat(day.key), day.realised, day.profit_share) for day in self.days]
        return [
            (datetime.combine(day, time.max, tzinfo=UTC), pnl, share)
            for day, pnl, share in days
            if day < singly
        ] + [
            (at, pnl, share)
            for at, pnl, share, _ in self.newest
            if at > datetime.combine(singly, time.min, tzinfo=UTC)
        ]


def results(since: datetime | None = None, deployments: Deployments = None) -> Results:
    """Read the results of the positions that closed since a moment, or of all time."""
    parameters = {"deployments": deployments, "since": since, "most": SINGLY}
    sums = breakdown(["day", "token"] if since is None else ["day"], deployments, since)
    with connection.cursor() as cursor:
        if since is None:
            by_symbol = {part.key: part.realised for part in sorted(sums["token"], key=lambda part: part.key)}
        else:  # by its index alone, without the costs of each position
            cursor.execute(BY_SYMBOL, parameters)
            by_symbol = dict(cursor.fetchall())
        cursor.execute(NEWEST, parameters)
        newest = cursor.fetchall()[::-1]
    return Results(sums["day"], by_symbol, newest)


def figures(
    since: datetime | None = None, deployments: Deployments = None, closed: Results | None = None
) -> Figures:
    """Compute the figures since a moment, or of all time. Pass `closed` where the results have been read already."""
    closed = closed or results(since, deployments)
    days = sum(closed.days, Part(""))
    count, winners, by_symbol = int(days.closed), int(days.winners), closed.by_symbol
    levels = [ZERO, *accumulate(pnl for _, pnl, _ in closed.steps())]
    return Figures(
        since=since,
        realised=days.realised,
        unrealised=unrealised(deployments),
        fees=days.fees,
        profit_share=days.profit_share,
        closed=count,
        winners=winners,
        average_win=days.won / winners if winners else ZERO,
        average_loss=days.lost / (count - winners) if count > winners else ZERO,
        drawdown=max_drawdown(levels),
        best=max(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        worst=min(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        cvar_95_pct=cvar_95([pnl * 100 / paid for _, pnl, _, paid in closed.newest if paid]),
    )


def volume(since: datetime | None = None, deployments: Deployments = None) -> dict[str, Any]:
    """Count fills by side and sum their USDC volume, since a moment or of all time. Reads every fill."""
    fills = Fill.objects.filter(at__gte=since) if since else Fill.objects.all()
    fills = fills if deployments is None else fills.filter(order__deployment__in=deployments)
    sides = dict(fills.order_by().values_list("order__side").annotate(Count("pk")))
    traded = fills.aggregate(total=Sum("cash"))["total"] or ZERO
    return {"buys": sides.get("buy", 0), "sells": sides.get("sell", 0), "volume_usd": plain(usdc(traded))}


def unrealised(deployments: Deployments = None) -> Decimal:
    """Return the PnL of open positions at the newest quotes, before fees."""
    rows = _of(Position.objects.exclude(state=PositionState.CLOSED), deployments)
    return with_unrealised(rows).aggregate(total=Sum("unrealised"))["total"] or ZERO


def equity(deployments: Deployments = None) -> Decimal:
    """Return what the deployments hold less what they owe, at the newest quotes, in USD."""
    return total_equity(deployments)


def _of(rows: QuerySet[M], deployments: Deployments) -> QuerySet[M]:
    return rows if deployments is None else rows.filter(deployment__in=deployments)


def blocked(deployments: Deployments = None, hours: int = 24) -> dict[str, int]:
    """Count the orders that were blocked in the last hours: reason -> number, the most frequent first."""
    rows = _of(Order.objects.filter(state=OrderState.BLOCKED), deployments)
    rows = rows.filter(created_at__gte=clock.now() - timedelta(hours=hours)).order_by()
    return dict(rows.values_list("reason").annotate(n=Count("pk")).order_by("-n", "reason"))
