"""What is stored of an outcome: all figures of a performance page, results by part, daily equity, trades, bars.

Everything is ready for JSON: amounts and prices as decimal texts, equity in whole base units, moments in seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from maxxit.backtest.figures import UNITS, Figures
from maxxit.backtest.market import Market
from maxxit.backtest.monte_carlo import shuffled_orders, worse_fills
from maxxit.backtest.run import Outcome
from maxxit.backtest.trades import Closed
from maxxit.core.money import ZERO, plain, usdc
from maxxit.replay.tape import Tape
from positions.performance import returns, trades
from positions.performance.report import drawdown_json, figure_json, risk_json, statistics_json
from positions.performance.returns import Curve

PARTS: dict[str, Callable[[Closed], str]] = {
    "exit reason": lambda one: one.reason,
    "token": lambda one: one.trade.symbol,
    "side": lambda one: one.trade.side,
    "account": lambda one: one.trade.account,
}
"""Name of a part -> what it is of a closed position."""
BAR_SECONDS = (300, 900, 3600, 4 * 3600, 24 * 3600)
MOST_BARS = 1_500
"""Of one token: the shortest of BAR_SECONDS with fewer is taken."""
EXTRA_BPS = 30
"""Basis points by which a fill of the Monte Carlo test is worse at most."""


def report_of(outcome: Outcome, figures: Figures, curve: Curve) -> dict[str, Any]:
    """Return the figures of docs/figures.md that a backtest has, beside those of `Figures`."""
    closed = outcome.traded.closed
    sums = trades.sums_of(
        trades.ClosedTrade(one.pnl - one.share, _held(one), one.trade.entry.cash + one.exit.cash)
        for one in closed
    )
    spans = [(one.trade.opened_at.timestamp(), one.closed_at.timestamp()) for one in closed]
    spans += [(one.opened_at.timestamp(), None) for one in outcome.traded.open]  # type: ignore[misc]
    median = trades.median_held_seconds(_held(one) for one in closed)
    turnover = trades.turnover(sums.traded, Decimal(returns.mean_equity(curve)) / UNITS)
    in_market = returns.time_in_market(spans, curve.at[0], curve.at[-1]) if len(curve) else None
    mwr = returns.mwr(curve)
    return figures.as_json() | {
        "capital": _money(curve.equity[0]) if len(curve) else "0",
        "equity": _money(curve.equity[-1]) if len(curve) else "0",
        "mwr": figure_json(mwr.period),
        "apr": figure_json(returns.apr(curve, len(closed))),
        "risk": risk_json(returns.risk(curve)),
        "drawdown": drawdown_json(returns.max_drawdown(curve)),
        "statistics": statistics_json(trades.statistics(sums)),
        "median_held_seconds": None if median is None else plain(median),
        "time_in_market": figure_json(in_market),
        "turnover": None if turnover is None else f"{turnover:.4f}",
    }


def _held(one: Closed) -> int:
    return int((one.closed_at - one.trade.opened_at).total_seconds())


def _money(units: int) -> str:
    return plain(usdc(Decimal(int(units)) / UNITS))


def equity_rows(curve: Curve) -> list[list[int]]:
    """Return [seconds, equity in USDC base units] of each point."""
    return [[int(at), int(equity)] for at, equity in zip(curve.at, curve.equity, strict=True)]


def parts_of(closed: Iterable[Closed]) -> dict[str, list[dict[str, Any]]]:
    """Return the results by exit reason, token, side and account: the largest result first."""
    sums: dict[str, dict[str, list[Decimal]]] = {name: defaultdict(list) for name in PARTS}
    for one in closed:
        for name, key in PARTS.items():
            sums[name][key(one)].append(one.pnl - one.share)
    return {
        name: [
            {"name": key, "closed": len(of), "winners": sum(x > 0 for x in of), "net": plain(sum(of, ZERO))}
            for key, of in sorted(found.items(), key=lambda item: (-sum(item[1], ZERO), item[0]))
        ]
        for name, found in sums.items()
    }


def monte_carlo_of(outcome: Outcome, curve: Curve, seed: int) -> dict[str, Any]:
    """Return both Monte Carlo tests of the closed positions; empty without one."""
    closed = sorted(outcome.traded.closed, key=lambda one: (one.closed_at, one.trade.number))
    if not closed or not len(curve):
        return {}
    results = [int((one.pnl - one.share) * UNITS) for one in closed]
    traded = [int((one.trade.entry.cash + one.exit.cash) * UNITS) for one in closed]
    return {
        "order": shuffled_orders(results, int(curve.equity[0]), seed=seed).as_json(),
        "slippage": worse_fills(results, traded, EXTRA_BPS, seed=seed).as_json(),
    }


def bars_of(tape: Tape, market: Market) -> dict[str, Any]:
    """Return candles of the tape's quotes: {seconds, bars: symbol -> [[begin, open, high, low, close], ...]}."""
    span = max(tape.end - tape.start, 1)
    seconds = next((one for one in BAR_SECONDS if span <= one * MOST_BARS), BAR_SECONDS[-1])
    return {
        "seconds": seconds,
        "bars": {symbol: _bars(tape, symbol, seconds) for symbol in sorted(tape.quotes)},
    }


def _bars(tape: Tape, symbol: str, seconds: int) -> list[list[Any]]:
    bars: dict[int, list[Decimal]] = {}
    for place, price, *_ in tape.quotes[symbol]:
        bars.setdefault((tape.moments[place] - 1) // seconds * seconds, []).append(Decimal(price))
    return [
        [begin, *(plain(price) for price in (of[0], max(of), min(of), of[-1]))]
        for begin, of in sorted(bars.items())
    ]
