"""The performance of some deployments over a span: the figures that pages, API, commands and replay show.

Definitions: docs/figures.md. Everything is computed from three sources: equity points, the attribution's totals of
closed positions, and the books of positions and ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from maxxit.core.money import IS_TOKEN, ZERO, plain, usdc
from positions.performance import parts, points, returns, trades
from positions.performance.equity import HELD, PAID_IN
from positions.performance.identity import Books, read_books

UNITS = Decimal(1_000_000)
"""USDC base units in a dollar."""
OLDEST_QUOTE = f"""
SELECT min(q.at) FROM (
    SELECT asset FROM ({HELD}) AS lines WHERE asset {IS_TOKEN} GROUP BY deployment_id, asset HAVING sum(amount) <> 0
) AS held JOIN quotes q ON q.symbol = held.asset
"""  # noqa: S608 (constants only)
PAID = f"""
SELECT coalesce(sum(amount) FILTER (WHERE amount > 0), 0), coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)
FROM ({PAID_IN}) AS paid
WHERE at >= coalesce(%(since)s::timestamptz, '-infinity') AND at < coalesce(%(until)s::timestamptz, 'infinity')
"""  # noqa: S608 (constants only)
HELD_SECONDS = """
SELECT extract(epoch FROM closed_at - opened_at)::bigint FROM positions
WHERE state = 'closed' AND (%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND closed_at >= coalesce(%(since)s::timestamptz, '-infinity')
  AND closed_at < coalesce(%(until)s::timestamptz, 'infinity')
ORDER BY closed_at DESC LIMIT %(most)s
"""
OF_THEM = """
(%(deployments)s::bigint[] IS NULL OR deployment_id = ANY(%(deployments)s::bigint[]))
  AND opened_at < coalesce(%(until)s::timestamptz, 'infinity')
"""
OPEN_SPANS = f"""
SELECT extract(epoch FROM opened_at)::float8, extract(epoch FROM closed_at)::float8 FROM (
    (SELECT opened_at, closed_at FROM positions WHERE state <> 'closed' AND {OF_THEM} LIMIT %(most)s)
    UNION ALL
    (SELECT opened_at, closed_at FROM positions
     WHERE state = 'closed' AND closed_at >= coalesce(%(since)s::timestamptz, '-infinity') AND {OF_THEM}
     ORDER BY closed_at DESC LIMIT %(most)s)
) AS held
LIMIT %(most)s
"""  # noqa: S608 (constants only)
SINGLY = 2_000
"""Median holding time and time in market are those of this many newest positions."""


@dataclass(frozen=True, slots=True)
class Performance:
    """What a span brought. Amounts in USD; `Ratio`, rates and returns are fractions unless named percent."""

    deployments: list[int] | None
    """None: the whole platform."""
    since: datetime | None
    until: datetime | None
    equity: Decimal
    """Now, or at the end of the span."""
    oldest_quote_at: datetime | None
    """Time of the oldest quote behind the equity of now; None where only USDC is held."""
    deposits: Decimal
    withdrawals: Decimal
    pnl: Decimal
    """Change of equity less deposits plus withdrawals."""
    curve: returns.Curve
    twr: float | None
    mwr: returns.MoneyWeighted
    apr: float | returns.NotEnough | None
    risk: returns.Risk | returns.NotEnough
    drawdown: returns.Drawdown | None
    closed: parts.Part
    """The positions that closed in the span."""
    statistics: trades.TradeStatistics
    median_held_seconds: Decimal | None
    time_in_market: float | None
    turnover: Decimal | None
    books: Books
    """Since the first deposit: realised, unrealised and all costs, checked against the ledger."""

    @property
    def open_pnl(self) -> Decimal:
        """Return the part of the span's PnL that is not from positions closed in it: open positions and their fees."""
        return self.pnl - self.closed.net

    def as_json(self) -> dict[str, Any]:
        """Amounts and ratios as decimal strings; a figure that needs a longer history is an object with `need`."""
        money = ("equity", "deposits", "withdrawals", "pnl", "open_pnl")
        return {
            "deployments": self.deployments,
            "since": _iso(self.since),
            "until": _iso(self.until),
            **{f"{name}_usd": plain(usdc(getattr(self, name))) for name in money},
            "closed_pnl_usd": plain(usdc(self.closed.net)),
            "oldest_quote_at": _iso(self.oldest_quote_at),
            "twr": _number(self.twr),
            "mwr": {
                "annual": _number(self.mwr.annual),
                "period": _number(self.mwr.period),
                "reason": self.mwr.reason,
            },
            "apr": figure_json(self.apr),
            **risk_json(self.risk),
            "max_drawdown": drawdown_json(self.drawdown),
            "trades": statistics_json(self.statistics),
            "median_held_seconds": _decimal(self.median_held_seconds),
            "time_in_market": _number(self.time_in_market),
            "turnover": _decimal(self.turnover),
            "costs": {
                name: plain(usdc(getattr(self.closed, name)))
                for name in ("venue_fees", "platform_fees", "profit_share", "gas_usd", "slippage_usd")
            },
            "books": self.books.as_json(),
        }


def performance(
    deployments: Sequence[int] | None = None, since: datetime | None = None, until: datetime | None = None
) -> Performance:
    """Compute the figures of these deployments (None: all) over [since, until); None: from the beginning, until now.

    Equity and returns come from equity points, so a span begins no earlier than the first of them. Results of closed
    positions count where the position closed in the span.
    """
    scope = None if deployments is None else list(deployments)
    curve = returns.curve_of(points.read_points(scope, since, until))
    books = read_books(scope)
    closed = parts.total(scope, since, until)
    sums = trades.TradeSums(
        int(closed.closed),
        int(closed.winners),
        closed.won,
        closed.lost,
        int(closed.held_seconds),
        closed.turnover_usd,
    )
    flows = [Decimal(int(flow)) / UNITS for flow in curve.flow]
    inside = flows if since is None else flows[1:]
    equity = Decimal(int(curve.equity[-1])) / UNITS if len(curve) else ZERO
    opening = flows[0] if since is not None and flows else ZERO
    pnl = (
        books.equity - books.deposits
        if since is None and until is None
        else equity - opening - sum(inside, ZERO)
    )
    span = {"deployments": scope, "since": since, "until": until, "most": SINGLY}
    [(deposits, withdrawals)] = _rows(PAID, span)
    mean = Decimal(returns.mean_equity(curve)) / UNITS
    return Performance(
        deployments=scope,
        since=since,
        until=until,
        equity=equity if until else books.equity,
        oldest_quote_at=_rows(OLDEST_QUOTE, {"deployments": scope})[0][0],
        deposits=deposits,
        withdrawals=withdrawals,
        pnl=pnl,
        curve=curve,
        twr=returns.twr(curve),
        mwr=returns.mwr(curve),
        apr=returns.apr(curve, int(sums.count)),
        risk=returns.risk(curve),
        drawdown=returns.max_drawdown(curve),
        closed=closed,
        statistics=trades.statistics(sums),
        median_held_seconds=trades.median_held_seconds(seconds for (seconds,) in _rows(HELD_SECONDS, span)),
        time_in_market=_time_in_market(span, curve) if closed.trades < SINGLY else None,
        turnover=trades.turnover(closed.turnover_usd, mean),
        books=books,
    )


def _time_in_market(span: dict[str, Any], curve: returns.Curve) -> float | None:
    """Return the fraction of the curve's span with an open position; None where not all positions were read."""
    if not len(curve):
        return None
    rows = _rows(OPEN_SPANS, span)
    if len(rows) == SINGLY:
        return None
    return returns.time_in_market(rows, float(curve.at[0]), float(curve.at[-1]))


def _rows(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6f}"


def _decimal(value: Decimal | None) -> str | None:
    return None if value is None else plain(value.quantize(Decimal("0.0001")))


def figure_json(value: float | returns.NotEnough | None) -> Any:
    """Return a rate as text; where the history is too short, what it has and needs."""
    if isinstance(value, returns.NotEnough):
        return {"have": value.have, "need": value.need, "unit": value.unit}
    return _number(value)


def risk_json(risk: returns.Risk | returns.NotEnough) -> dict[str, Any]:
    """Return volatility and ratios with their intervals as texts, by name."""
    names = ("sharpe", "sortino", "calmar")
    if isinstance(risk, returns.NotEnough):
        return dict.fromkeys(("volatility", *names), figure_json(risk))
    ratios = {name: getattr(risk, name) for name in names}
    return {"volatility": _number(risk.volatility)} | {
        name: {
            "value": _number(row.value),
            "low": _number(row.low),
            "high": _number(row.high),
            "days": row.days,
        }
        for name, row in ratios.items()
    }


def drawdown_json(fall: returns.Drawdown | None) -> dict[str, Any] | None:
    """Return percent and moments of a drawdown."""
    if fall is None:
        return None
    moments = {name: _iso(getattr(fall, name)) for name in ("peak_at", "trough_at", "recovered_at")}
    return {"percent": _number(fall.percent)} | moments


def statistics_json(statistics: trades.TradeStatistics) -> dict[str, Any]:
    """Return the statistics of closed positions as decimal texts, by name."""
    names = (
        "win_rate", "win_rate_low", "win_rate_high", "profit_factor", "expectancy", "average_win", "average_loss",
        "payoff", "average_held_seconds",
    )  # fmt: skip
    return {"count": statistics.count, "winners": statistics.winners} | {
        name: _decimal(getattr(statistics, name)) for name in names
    }
