"""Statistics of closed positions: win rate, profit factor, expectancy, payoff, holding time, turnover. Pure.

A result is what a position earned after all costs (venue fees, platform fee, profit share), in USDC. Winners have a
result above zero; a position that broke even counts among the losers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from maxxit.core.intervals import wilson
from maxxit.core.money import ZERO, exactly


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """What the statistics need of one closed position."""

    result: Decimal
    """After all costs, USDC."""
    held_seconds: int
    traded: Decimal
    """Entry and exit together, USD."""


@dataclass(frozen=True, slots=True)
class TradeSums:
    """Sums over closed positions: parts of a roll-up are added, so statistics need no rows.

    A position that several authors share counts for each by his share, so counts can be fractions.
    """

    count: Decimal | int = 0
    winners: Decimal | int = 0
    won: Decimal = ZERO
    """Results of the winners, USDC."""
    lost: Decimal = ZERO
    """Results of the others, USDC, zero or negative."""
    held_seconds: Decimal | int = 0
    traded: Decimal = ZERO
    """Entries and exits together, USD."""

    def __add__(self, other: TradeSums) -> TradeSums:
        with exactly():
            return TradeSums(
                self.count + other.count,
                self.winners + other.winners,
                self.won + other.won,
                self.lost + other.lost,
                self.held_seconds + other.held_seconds,
                self.traded + other.traded,
            )


def sums_of(trades: Iterable[ClosedTrade]) -> TradeSums:
    """Sum closed positions."""
    count = winners = held = 0
    won = lost = traded = ZERO
    for trade in trades:
        count, held = count + 1, held + trade.held_seconds
        with exactly():
            traded += trade.traded
            if trade.result > 0:
                winners, won = winners + 1, won + trade.result
            else:
                lost += trade.result
    return TradeSums(count, winners, won, lost, held, traded)


@dataclass(frozen=True, slots=True)
class TradeStatistics:
    """Statistics of closed positions; None where there is nothing to divide by. Amounts in USDC."""

    count: Decimal | int
    winners: Decimal | int
    net: Decimal
    """Sum of all results."""
    win_rate: Decimal | None
    """Winners / closed positions, a fraction."""
    win_rate_low: Decimal | None
    """Lower end of its 95 % Wilson interval."""
    win_rate_high: Decimal | None
    profit_factor: Decimal | None
    """Won / lost, as a positive number; None without a loss."""
    expectancy: Decimal | None
    """Mean result of a position."""
    average_win: Decimal | None
    average_loss: Decimal | None
    """Zero or negative."""
    payoff: Decimal | None
    """Average win / average loss, as a positive number."""
    average_held_seconds: Decimal | None
    traded: Decimal
    """Entries and exits together, USD."""


def statistics(sums: TradeSums) -> TradeStatistics:
    """Compute the statistics of closed positions from their sums."""
    losers = sums.count - sums.winners
    average_win, average_loss = _ratio(sums.won, sums.winners), _ratio(sums.lost, losers)
    low, high = wilson(sums.winners, sums.count) or (None, None)
    with exactly():
        net = sums.won + sums.lost
    return TradeStatistics(
        count=sums.count,
        winners=sums.winners,
        net=net,
        win_rate=_ratio(Decimal(sums.winners), sums.count),
        win_rate_low=low,
        win_rate_high=high,
        profit_factor=_ratio(sums.won, -sums.lost),
        expectancy=_ratio(net, sums.count),
        average_win=average_win,
        average_loss=average_loss,
        payoff=None if average_win is None or average_loss is None else _ratio(average_win, -average_loss),
        average_held_seconds=_ratio(Decimal(sums.held_seconds), sums.count),
        traded=sums.traded,
    )


def _ratio(top: Decimal, bottom: Decimal | int) -> Decimal | None:
    return top / bottom if bottom else None


def median_held_seconds(held_seconds: Iterable[int]) -> Decimal | None:
    """Return the median holding time in seconds, the mean of the two middle ones of an even number; None of nothing.

    Unlike the other statistics it needs the rows: a median of parts is not the median of the whole.
    """
    ordered = sorted(held_seconds)
    if not ordered:
        return None
    return Decimal(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def turnover(traded: Decimal, mean_equity: Decimal) -> Decimal | None:
    """Return how many times the mean equity (USD) was traded, entries and exits together; None without equity."""
    return traded / mean_equity if mean_equity > 0 else None
