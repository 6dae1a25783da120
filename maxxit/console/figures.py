"""What was earned, by whom and how: the figures of the dashboard, of `pnl` and of `/metrics`."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import merge
from typing import Any

from django.db.models import Count, F, QuerySet, Sum

from agents.models import Deployment
from maxxit.console.owned import Person, sees_all, visible
from maxxit.core import clock
from maxxit.core.money import ZERO, plain, usdc
from positions.models import Position
from positions.performance import flows, total_equity, with_unrealised
from positions.pnl import cvar_95, max_drawdown
from trading.models import Fill, Order

CENT = Decimal("0.01")
POINTS = 400
"""Of the equity curve at most: more than the pixels of its plot says nothing."""


def midnight(moment: datetime) -> datetime:
    """The start of its UTC day."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Figures:
    """Results of the positions that closed since a moment, and what is open. Amounts in USDC."""

    since: datetime | None
    realised: Decimal
    unrealised: Decimal
    fees: Decimal
    profit_share: Decimal
    closed: int
    winners: int
    average_win: Decimal
    average_loss: Decimal
    drawdown: Decimal
    best: str
    worst: str
    """Symbols by realised PnL; empty without a closed position."""
    buys: int
    sells: int
    volume_usd: Decimal
    cvar_95_pct: Decimal | None
    """What the worst twentieth of the closed positions lost on average, percent of their entry; None for too few."""

    @property
    def total(self) -> Decimal:
        """Realised and unrealised together."""
        return self.realised + self.unrealised

    @property
    def win_rate(self) -> Decimal:
        """Fraction of the closed positions; 0 without any."""
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
        told: dict[str, Any] = {f"{name}_usdc": plain(usdc(getattr(self, name))) for name in names}
        told |= {"since": self.since.isoformat() if self.since else None, "win_rate": plain(self.win_rate)}
        told |= {
            name: getattr(self, name) for name in ("closed", "winners", "best", "worst", "buys", "sells")
        }
        told["cvar_95_pct"] = None if self.cvar_95_pct is None else plain(self.cvar_95_pct.quantize(CENT))
        return told | {"volume_usd": plain(usdc(self.volume_usd))}


def figures(since: datetime | None = None, person: Person = None) -> Figures:
    """The results since a moment, or of all time."""
    mine = visible(Position.objects.all(), person)
    closed = mine.filter(state="closed")
    fills = visible(Fill.objects.all(), person)
    if since:
        closed, fills = closed.filter(closed_at__gte=since), fills.filter(at__gte=since)
    rows = list(
        closed.order_by("closed_at", "pk").values_list(
            "symbol", "realised_pnl", "fees", "profit_share", F("entry_price") * F("quantity")
        )
    )
    earned = [pnl for _, pnl, *_ in rows]
    wins, losses = [one for one in earned if one > 0], [one for one in earned if one <= 0]
    by_symbol: dict[str, Decimal] = defaultdict(Decimal)
    curve = [ZERO]
    for symbol, pnl, *_ in rows:
        by_symbol[symbol] += pnl
        curve.append(curve[-1] + pnl)
    sides = dict(fills.order_by().values_list("order__side").annotate(Count("pk")))
    return Figures(
        since=since,
        realised=sum(earned, ZERO),
        unrealised=unrealised(mine),
        fees=sum((fee for _, _, fee, *_ in rows), ZERO),
        profit_share=sum((share for _, _, _, share, _ in rows), ZERO),
        closed=len(rows),
        winners=len(wins),
        average_win=sum(wins, ZERO) / len(wins) if wins else ZERO,
        average_loss=sum(losses, ZERO) / len(losses) if losses else ZERO,
        drawdown=max_drawdown(curve),
        best=max(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        worst=min(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        buys=sides.get("buy", 0),
        sells=sides.get("sell", 0),
        cvar_95_pct=cvar_95([pnl * 100 / paid for _, pnl, _, _, paid in rows if paid]),
        volume_usd=fills.aggregate(total=Sum("cash"))["total"] or ZERO,
    )


def unrealised(rows: QuerySet[Position]) -> Decimal:
    """USDC that the open ones among `rows` would bring at the newest quotes, before fees."""
    return with_unrealised(rows.exclude(state="closed")).aggregate(total=Sum("unrealised"))["total"] or ZERO


def equity(person: Person = None) -> Decimal:
    """USD: what the deployments hold less what they owe, at the newest quotes."""
    return total_equity(None if sees_all(person) else _purses(person))


def _purses(person: Person) -> list[int]:
    return list(visible(Deployment.objects.all(), person).values_list("pk", flat=True))


def curve(person: Person = None) -> list[tuple[datetime, Decimal]]:
    """Equity in USD after each closing, after each payment since the first, and now: payments plus PnL, less shares.

    What was paid in before the first closing is the first point, so that the plot shows how trading went.
    """
    closed = visible(Position.objects.filter(state="closed"), person).order_by("closed_at", "pk")
    rows = closed.values_list("closed_at", "realised_pnl", "profit_share")
    earned = [(at, pnl - share) for at, pnl, share in rows if at is not None]
    paid = flows(_purses(person))
    points: list[tuple[datetime, Decimal]] = []
    level = ZERO
    for at, amount in merge(paid, earned, key=lambda step: step[0]):
        level += amount
        points.append((at, level))
    first = earned[0][0] if earned else clock.now()
    points = points[max(sum(at < first for at, _ in paid) - 1, 0) :]
    if len(points) > POINTS:
        step = len(points) / POINTS
        points = [points[int(number * step)] for number in range(POINTS)]
    if points:
        points.append((clock.now(), equity(person)))
    return points


def blocked(person: Person = None, hours: int = 24) -> dict[str, int]:
    """Orders that were stopped in the last hours: reason -> how many, the commonest first."""
    rows = visible(Order.objects.filter(state="blocked"), person)
    rows = rows.filter(created_at__gte=clock.now() - timedelta(hours=hours)).order_by()
    return dict(rows.values_list("reason").annotate(n=Count("pk")).order_by("-n", "reason"))
