"""Figures of a run: counts, PnL, costs, and the returns of its equity at the end of each UTC day."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Any

from maxxit.backtest.market import Market
from maxxit.backtest.run import Outcome
from maxxit.backtest.trades import Closed, Trade
from maxxit.core.intervals import wilson
from maxxit.core.money import ZERO, plain, usdc
from maxxit.core.terms import SIGN
from positions.performance import returns
from positions.performance.returns import Curve

UNITS = 1_000_000
"""Base units of one USDC."""
RECOMMENDED_DAYS = 180
"""With less history a result says little about other times (checklist C17)."""
FEW_TRADES = 20


@dataclass(frozen=True)
class Figures:
    """What a run gave. Amounts are USDC, rates fractions."""

    signals: int
    orders: int
    blocked: Mapping[str, int]
    closed: int
    open: int
    by_reason: Mapping[str, int]
    pnl: Decimal
    """Of the closed positions, after fees and before the profit share."""
    fees: Decimal
    profit_share: Decimal
    net: Decimal
    """Change of the equity of all accounts, open positions at the last prices included."""
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    twr: float | None
    max_drawdown: float | None
    sharpe: float | None
    """Annualised, of the daily returns; None with fewer than `returns.MIN_DAYS` days, as on the page Performance."""
    days: int
    """Number of daily returns."""

    def as_json(self) -> dict[str, Any]:
        """Return the figures for programs: amounts as decimal strings."""
        return {
            name: plain(value) if isinstance(value, Decimal) else value
            for name, value in asdict(self).items()
        }


def figures_of(outcome: Outcome, market: Market, curve: Curve | None = None) -> Figures:
    """Return the figures of a run. `curve`: its `equity_curve`, where it is known."""
    traded = outcome.traded
    closed = traded.closed
    curve = equity_curve(outcome, market) if curve is None else curve
    wins = sum(one.pnl > one.share for one in closed)
    bounds = wilson(wins, len(closed))
    fall = returns.max_drawdown(curve)
    change = int(curve.equity[-1] - curve.equity[0]) if len(curve) else 0
    of_days = returns.daily(curve).returns
    return Figures(
        signals=len(outcome.decided.signals),
        orders=traded.orders,
        blocked=_counts(traded.blocked),
        closed=len(closed),
        open=len(traded.open),
        by_reason=_counts(Counter(one.reason for one in closed)),
        pnl=sum((one.pnl for one in closed), ZERO),
        fees=sum((one.fees for one in closed), ZERO),
        profit_share=sum((one.share for one in closed), ZERO),
        net=Decimal(change) / UNITS,
        win_rate=wins / len(closed) if closed else None,
        win_rate_low=float(bounds[0]) if bounds else None,
        win_rate_high=float(bounds[1]) if bounds else None,
        twr=returns.twr(curve),
        max_drawdown=fall.percent / 100 if fall else None,
        sharpe=None if returns.too_few_days(curve, of_days) else returns.sharpe(of_days),
        days=len(of_days),
    )


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {str(reason): count for reason, count in sorted(counter.items())}


def equity_curve(outcome: Outcome, market: Market) -> Curve:
    """Return the equity of all accounts together at the start and at the end of each UTC day, USDC base units.

    Open positions count at the last price, without the costs of their exit.
    """
    balances = sum((one.balance for trader in outcome.settings.traders for one in trader.accounts), ZERO)
    moments = [moment for _, moment in market.days]
    realised, unrealised = [ZERO] * (len(moments) + 1), [ZERO] * len(moments)
    held = [(one.trade, bisect_left(moments, one.closed_at)) for one in outcome.traded.closed]
    for one, (_, closes) in zip(outcome.traded.closed, held, strict=True):
        realised[closes] += one.pnl - one.share
    held += [(trade, len(moments)) for trade in outcome.traded.open]
    for trade, closes in held:
        for day in range(bisect_left(moments, trade.opened_at), closes):
            unrealised[day] += _unrealised(trade, market, day)
    rows = [(float(market.tape.start), 1, int(usdc(balances) * UNITS), 0)]
    rows += [
        (moment.timestamp(), 1, int(usdc(balances + earned + value) * UNITS), 0)
        for moment, earned, value in zip(moments, accumulate(realised[:-1]), unrealised, strict=True)
        if moment.timestamp() > market.tape.start
    ]
    return returns.curve_of(rows)


def _unrealised(trade: Trade, market: Market, day: int) -> Decimal:
    quote = market.quote(trade.symbol, market.days[day][0])
    price = quote.price if quote else trade.entry.price
    gross = SIGN[trade.side] * (trade.entry.quantity * price - trade.entry.cash)
    return gross - trade.entry.fee - trade.platform_fee


def cautions(outcome: Outcome, figures: Figures) -> list[str]:
    """Return what a reader of the figures has to know, each a sentence."""
    texts = []
    if figures.days < RECOMMENDED_DAYS:
        texts.append(f"{figures.days} days: fewer than {RECOMMENDED_DAYS} say little about other times.")
    if figures.days < returns.MIN_DAYS:
        texts.append(f"{figures.days} days: a Sharpe ratio is stated from {returns.MIN_DAYS} days on.")
    if figures.closed < FEW_TRADES:
        texts.append(f"{figures.closed} closed trades: fewer than {FEW_TRADES} say little.")
    if outcome.settings.changes:
        texts.append("These settings were chosen after the prices were known.")
    return texts


def trade_row(one: Closed) -> dict[str, Any]:
    """Return a closed position for programs."""
    trade = one.trade
    return {
        "account": trade.account,
        "symbol": trade.symbol,
        "side": trade.side,
        "opened_at": trade.opened_at.isoformat(),
        "closed_at": one.closed_at.isoformat(),
        "reason": one.reason,
        "quantity": plain(trade.entry.quantity),
        "entry_price": plain(trade.entry.price),
        "exit_price": plain(one.exit.price),
        "fees": plain(one.fees),
        "pnl": plain(one.pnl),
        "profit_share": plain(one.share),
    }
