"""Performance, attribution and equity curve of a scope: what commands, API and page show of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from maxxit.core import clock
from maxxit.core.clock import iso_utc
from maxxit.core.money import plain
from maxxit.reports.scope import Scope
from maxxit.reports.statement import BEGINNING
from positions.models import BooksCheck, Position
from positions.performance import parts, returns
from positions.performance.identity import Books, read_books
from positions.performance.parts import Dimension, Part
from positions.performance.points import read_points
from positions.performance.report import Performance, performance
from positions.performance.returns import Curve
from positions.performance.spending import Spent, spent_by_platform
from positions.states import PositionState
from signals_app.models import ImpactFactorHistory

POINTS = 400
"""At most this many points of a curve: a plot has no more pixels."""


def read(scope: Scope, since: datetime | None = None, until: datetime | None = None) -> Performance:
    """Return the performance of a scope that is not a followed account."""
    return performance(scope.deployments, since, until)


def attribution(
    scope: Scope, by: Dimension, since: datetime | None = None, until: datetime | None = None
) -> list[Part]:
    """Return the parts of the closed positions by one dimension; of a followed account its own part alone."""
    if scope.author is not None:
        rows = parts.attribution("author", scope.deployments, since, until)
        return [part for part in rows if part.key == str(scope.author)]
    return parts.attribution(by, scope.deployments, since, until)


def thinned(curve: Curve, most: int = POINTS) -> list[int]:
    """Return the places of at most `most` points of a curve: evenly spread, every flow and the last point included.

    Flows are left out as well where there are more than half of `most`.
    """
    size = len(curve)
    if size <= most:
        return list(range(size))
    flows = [place for place in range(size) if curve.flow[place]]
    flows = flows if len(flows) <= most // 2 else []
    left = most - len(flows) - 1
    even = {int(number * size / left) for number in range(left)}
    return sorted({*even, *flows, size - 1})


def equity_curve(
    scope: Scope, since: datetime | None = None, until: datetime | None = None, most: int = POINTS
) -> list[dict[str, Any]]:
    """Return `curve_rows` of a scope's equity over a span."""
    return curve_rows(returns.curve_of(read_points(scope.deployments, since, until)), most)


def curve_rows(curve: Curve, most: int = POINTS) -> list[dict[str, Any]]:
    """Return points of a curve: time, equity after the flow, flow (USD), deposit-neutral index and drawdown (percent).

    The first point's flow is the equity that the curve begins with.
    """
    points = shown(curve, most)
    rows = zip(points.times, points.equity, points.flows, points.index, points.below, strict=True)
    return [
        {
            "at": iso_utc(at),
            "equity_usd": plain(equity),
            "flow_usd": plain(flow),
            "index": f"{index:.6f}",
            "drawdown_pct": f"{0.0 - below:.4f}",
        }
        for at, equity, flow, index, below in rows
    ]


@dataclass(frozen=True, slots=True)
class Compared:
    """The newest stored comparison of positions and ledger, as far as it is about a scope."""

    at: datetime
    wrong: list[int]
    """Deployments of the scope whose figures differed."""


def compared(scope: Scope) -> Compared | None:
    """Return the newest comparison of a scope (`identity.check_books`); None before the first, or for no deployment."""
    check = None if scope.deployments == [] else BooksCheck.objects.first()
    if check is None:
        return None
    wrong = set(check.wrong) if scope.deployments is None else {*check.wrong} & {*scope.deployments}
    return Compared(check.checked_at, sorted(wrong))


GLANCE, GLANCE_POINTS = timedelta(days=30), 20_000
"""Span of the curve on the dashboard, and how many points are read for it at most."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What the dashboard shows: cheap to read, however long the history is."""

    books: Books
    """Of all time; equity, PnL."""
    closed: Part
    """All closed positions."""
    curve: Curve
    """Of the last 30 days."""

    @property
    def curve_pnl(self) -> Decimal:
        """PnL of the curve's span, USD."""
        if not len(self.curve):
            return Decimal(0)
        return Decimal(int(self.curve.equity[-1]) - int(self.curve.flow.sum())).scaleb(-6)


def glance(scope: Scope) -> Glance:
    """Return equity, PnL and closed positions of all time, and the curve of the last 30 days."""
    rows = read_points(scope.deployments, clock.now() - GLANCE, most=GLANCE_POINTS)
    total = parts.total(scope.deployments)
    return Glance(read_books(scope.deployments), total, returns.curve_of(rows))


@dataclass(frozen=True, slots=True)
class Shown:
    """The points of a curve that a plot shows, as columns."""

    times: list[datetime]
    equity: list[Decimal]
    """USD, after the flow."""
    flows: list[Decimal]
    """USD; the first is the opening equity."""
    pnl: list[Decimal]
    """Since the first point, USD: the change of equity less deposits plus withdrawals."""
    index: list[float]
    below: list[float]
    """Below the highest value so far, percent (zero or negative)."""


def shown(curve: Curve, most: int = POINTS) -> Shown:
    """Return at most about `most` points of a curve as columns."""
    places = thinned(curve, most)
    below = returns.underwater(curve) if places else curve.index
    pnl = curve.equity - curve.flow.cumsum()
    return Shown(
        [datetime.fromtimestamp(float(curve.at[place]), UTC) for place in places],
        [Decimal(int(curve.equity[place])).scaleb(-6) for place in places],
        [Decimal(int(curve.flow[place])).scaleb(-6) for place in places],
        [Decimal(int(pnl[place])).scaleb(-6) for place in places],
        [float(curve.index[place]) for place in places],
        [float(below[place]) + 0.0 for place in places],
    )


DAYS = 90
"""At most this many days are shown as bars."""


def daily_pnl(curve: Curve, most: int = DAYS) -> list[tuple[date, Decimal]]:
    """Return (UTC day, change of equity less flows in USD) of the last days of a curve, open positions included."""
    sums: dict[date, int] = {}
    before = 0
    for number in range(len(curve)):
        equity, flow = int(curve.equity[number]), int(curve.flow[number])
        if number:
            day = datetime.fromtimestamp(float(curve.at[number]), UTC).date()
            sums[day] = sums.get(day, 0) + equity - flow - before
        before = equity
    return [(day, Decimal(units).scaleb(-6)) for day, units in sorted(sums.items())[-most:]]


RESULTS = 2_000
"""The distribution shows the results of this many newest trades."""


def results(scope: Scope, since: datetime | None = None, until: datetime | None = None) -> list[Decimal]:
    """Return the results after all costs (USDC) of the newest positions that closed in [since, until)."""
    rows = Position.objects.filter(state=PositionState.CLOSED)
    rows = rows if scope.deployments is None else rows.filter(deployment__in=scope.deployments)
    rows = rows if since is None else rows.filter(closed_at__gte=since)
    rows = rows if until is None else rows.filter(closed_at__lt=until)
    newest = rows.order_by("-closed_at", "-pk").only("realised_pnl", "profit_share")[:RESULTS]
    return [row.net for row in newest]


def breakdown(
    scope: Scope, by: Sequence[Dimension], since: datetime | None = None, until: datetime | None = None
) -> dict[Dimension, list[Part]]:
    """Return the parts of several dimensions, read together."""
    return parts.breakdown(by, scope.deployments, since, until)


def spent(scope: Scope, since: datetime | None = None, until: datetime | None = None) -> Spent | None:
    """Return what the platform spent on models and posts in the UTC days of a span; None for a part of the platform."""
    if scope.deployments is not None or scope.author is not None:
        return None
    return spent_by_platform(since or BEGINNING, until or clock.now() + timedelta(days=1))


def own_record(author: int) -> dict[str, Any] | None:
    """Return the record of a followed account's own calls, traded or not; None before the first nightly measurement."""
    row = ImpactFactorHistory.objects.filter(account=author).order_by("-day").first()
    if row is None:
        return None
    return {
        "day": row.day.isoformat(),
        "calls": row.calls,
        "mean_score": plain(row.mean_score),
        "impact_factor": plain(row.impact_factor),
    }


def attributed(
    scope: Scope, by: Dimension, since: datetime | None = None, until: datetime | None = None
) -> dict[str, Any]:
    """Return the parts of one dimension and their total, as decimal strings; and a followed account's own record."""
    rows = attribution(scope, by, since, until)
    total = sum(rows, Part(""))
    return {
        "about": scope.label,
        "by": "author" if scope.author is not None else by,
        "since": iso_utc(since) if since else None,
        "until": iso_utc(until) if until else None,
        "parts": [row.as_json() for row in rows],
        "total": total.as_json(),
        "own_record": None if scope.author is None else own_record(scope.author),
    }
