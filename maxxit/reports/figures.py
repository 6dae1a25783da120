"""What was earned, by whom and how: the figures of the dashboard, of `pnl` and of `/metrics`."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from heapq import merge
from itertools import accumulate
from typing import Any

from django.db import connection
from django.db.models import Count, QuerySet, Sum

from agents.models import Deployment
from maxxit.access.rows import Person, sees_all, visible
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
    cvar_95_pct: Decimal | None
    """What the worst twentieth of the newest SINGLY closed positions lost on average, percent of their entry; None
    for too few."""

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
        told |= {name: getattr(self, name) for name in ("closed", "winners", "best", "worst")}
        told["cvar_95_pct"] = None if self.cvar_95_pct is None else plain(self.cvar_95_pct.quantize(CENT))
        return told


OWN_DAYS = """
SELECT (closed_at AT TIME ZONE 'UTC')::date, symbol, count(*), count(*) FILTER (WHERE realised_pnl > 0),
       coalesce(sum(realised_pnl) FILTER (WHERE realised_pnl > 0), 0),
       coalesce(sum(realised_pnl) FILTER (WHERE realised_pnl <= 0), 0), sum(fees), sum(profit_share)
FROM positions
WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND (%(since)s::timestamptz IS NULL OR closed_at >= %(since)s)
GROUP BY 1, 2 ORDER BY 1, 2
"""
ALL_DAYS = """
SELECT day, symbol, closed, winners, won, lost, fees, profit_share FROM daily_results WHERE closed > 0 ORDER BY 1, 2
"""
NEWEST = """
SELECT closed_at, realised_pnl, profit_share, entry_price * quantity
FROM positions
WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND (%(since)s::timestamptz IS NULL OR closed_at >= %(since)s)
ORDER BY closed_at DESC, id DESC LIMIT %(most)s
"""
SINGLY = 2_000
"""Closed positions that are looked at one by one, the newest; older ones are summed by day."""


@dataclass(frozen=True, slots=True)
class Day:
    """What the positions in one symbol that closed on one UTC day earned. Amounts in USDC."""

    day: date
    symbol: str
    closed: int
    winners: int
    won: Decimal
    lost: Decimal
    fees: Decimal
    profit_share: Decimal


@dataclass(frozen=True, slots=True)
class Results:
    """Closed positions in order of time: sums by day, and the newest one by one."""

    days: list[Day]
    newest: list[tuple[datetime, Decimal, Decimal, Decimal]]
    """(closed at, realised PnL, profit share, cost of the entry), at most SINGLY."""

    def steps(self) -> list[tuple[datetime, Decimal, Decimal]]:
        """(moment, realised PnL, profit share): each of the newest positions, before them each day at its end."""
        if len(self.newest) < SINGLY:
            return [(at, pnl, share) for at, pnl, share, _ in self.newest]
        singly = self.newest[0][0].astimezone(UTC).date() + timedelta(days=1)
        daily: dict[date, list[Decimal]] = {}
        for one in self.days:
            if one.day < singly:
                sums = daily.setdefault(one.day, [ZERO, ZERO])
                sums[0] += one.won + one.lost
                sums[1] += one.profit_share
        ends = {day: datetime.combine(day, time.max, tzinfo=UTC) for day in daily}
        return [(ends[day], pnl, share) for day, (pnl, share) in daily.items()] + [
            (at, pnl, share)
            for at, pnl, share, _ in self.newest
            if at > datetime.combine(singly, time.min, tzinfo=UTC)
        ]


def results(since: datetime | None = None, person: Person = None) -> Results:
    """What closed since a moment, or ever.

    All positions of the platform are summed in daily_results already; a person's own, and a short time, are few enough.
    """
    told = {
        "deployments": None if sees_all(person, Deployment) else _purses(person),
        "since": since,
        "most": SINGLY,
    }
    with connection.cursor() as cursor:
        cursor.execute(ALL_DAYS if since is None and sees_all(person, Deployment) else OWN_DAYS, told)
        days = [Day(*row) for row in cursor.fetchall()]
        cursor.execute(NEWEST, told)
        newest = cursor.fetchall()[::-1]
    return Results(days, newest)


def figures(since: datetime | None = None, person: Person = None, closed: Results | None = None) -> Figures:
    """The results since a moment, or of all time; `closed` spares reading them again."""
    closed = closed or results(since, person)
    days = closed.days
    count, winners = sum(one.closed for one in days), sum(one.winners for one in days)
    won, lost = sum((one.won for one in days), ZERO), sum((one.lost for one in days), ZERO)
    by_symbol: dict[str, Decimal] = defaultdict(Decimal)
    for one in days:
        by_symbol[one.symbol] += one.won + one.lost
    levels = [ZERO, *accumulate(pnl for _, pnl, _ in closed.steps())]
    return Figures(
        since=since,
        realised=won + lost,
        unrealised=unrealised(visible(Position.objects.all(), person)),
        fees=sum((one.fees for one in days), ZERO),
        profit_share=sum((one.profit_share for one in days), ZERO),
        closed=count,
        winners=winners,
        average_win=won / winners if winners else ZERO,
        average_loss=lost / (count - winners) if count > winners else ZERO,
        drawdown=max_drawdown(levels),
        best=max(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        worst=min(by_symbol, key=lambda symbol: by_symbol[symbol], default=""),
        cvar_95_pct=cvar_95([pnl * 100 / paid for _, pnl, _, paid in closed.newest if paid]),
    )


def volume(since: datetime | None = None, person: Person = None) -> dict[str, Any]:
    """Fills of buying and selling orders, and the USDC that changed hands, since a moment or ever. Reads each fill."""
    fills = visible(Fill.objects.all(), person)
    if since:
        fills = fills.filter(at__gte=since)
    sides = dict(fills.order_by().values_list("order__side").annotate(Count("pk")))
    traded = fills.aggregate(total=Sum("cash"))["total"] or ZERO
    return {"buys": sides.get("buy", 0), "sells": sides.get("sell", 0), "volume_usd": plain(usdc(traded))}


def unrealised(rows: QuerySet[Position]) -> Decimal:
    """USDC that the open ones among `rows` would bring at the newest quotes, before fees."""
    return with_unrealised(rows.exclude(state="closed")).aggregate(total=Sum("unrealised"))["total"] or ZERO


def equity(person: Person = None) -> Decimal:
    """USD: what the deployments hold less what they owe, at the newest quotes."""
    return total_equity(None if sees_all(person, Deployment) else _purses(person))


def _purses(person: Person) -> list[int]:
    return list(visible(Deployment.objects.all(), person).values_list("pk", flat=True))


def curve(person: Person = None, closed: Results | None = None) -> list[tuple[datetime, Decimal]]:
    """Equity in USD after each closing, after each payment since the first, and now: payments plus PnL, less shares.

    Of closings before the newest SINGLY there is one point a day. `closed` spares reading them again.

    What was paid in before the first closing is the first point, so that the plot shows how trading went.
    """
    earned = [(at, pnl - share) for at, pnl, share in (closed or results(person=person)).steps()]
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
