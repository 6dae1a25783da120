"""Statistics of closed positions from rows and from sums."""

from decimal import Decimal
from fractions import Fraction
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from positions.performance.trades import (
    ClosedTrade,
    TradeSums,
    median_held_seconds,
    statistics,
    sums_of,
    turnover,
)

D = Decimal
amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=18)
trades = st.lists(
    st.builds(ClosedTrade, amounts, st.integers(0, 10**8), amounts.map(lambda amount: amount.copy_abs())),
    max_size=25,
)


@given(trades, trades)
def test_the_sums_of_parts_add_up_to_the_sums_of_the_whole(
    some: list[ClosedTrade], others: list[ClosedTrade]
) -> None:
    assert sums_of(some) + sums_of(others) == sums_of([*some, *others])


@given(trades)
def test_the_statistics_are_those_of_the_rows(rows: list[ClosedTrade]) -> None:
    results = [Fraction(row.result) for row in rows]
    wins, losses = [one for one in results if one > 0], [one for one in results if one <= 0]
    ours = statistics(sums_of(rows))

    def same(value: Decimal | None, top: Fraction | int, bottom: Fraction | int) -> None:
        if not bottom:
            assert value is None
        else:
            assert value is not None
            assert float(value) == pytest.approx(float(top / Fraction(bottom)), rel=1e-12, abs=1e-24)

    same(ours.win_rate, len(wins), len(rows))
    same(ours.profit_factor, sum(wins), -sum(losses))
    same(ours.expectancy, sum(results), len(rows))
    same(ours.average_win, sum(wins), len(wins))
    same(ours.average_loss, sum(losses), len(losses))
    same(ours.average_held_seconds, sum(row.held_seconds for row in rows), len(rows))
    if wins and sum(losses):
        same(ours.payoff, sum(wins) * len(losses), -sum(losses) * len(wins))
    else:
        assert ours.payoff is None
    assert Fraction(ours.net) == sum(results)
    assert Fraction(ours.traded) == sum(Fraction(row.traded) for row in rows)


@given(trades)
def test_the_median_is_that_of_the_rows(rows: list[ClosedTrade]) -> None:
    held = [row.held_seconds for row in rows]

    assert median_held_seconds(held) == (median(map(Fraction, held)) if held else None)


def test_nothing_closed_has_no_statistics() -> None:
    ours = statistics(TradeSums())

    assert (ours.count, ours.net, ours.traded) == (0, 0, 0)
    assert ours.win_rate is ours.win_rate_low is ours.profit_factor is ours.expectancy is None


def test_a_position_that_broke_even_is_no_winner() -> None:
    ours = statistics(sums_of([ClosedTrade(D(0), 60, D(100)), ClosedTrade(D(1), 60, D(100))]))

    assert ours.win_rate == D("0.5")
    assert ours.profit_factor is ours.payoff is None
    assert ours.average_loss == 0


def test_the_turnover_is_how_often_the_mean_equity_was_traded() -> None:
    assert turnover(D(3000), D(1000)) == 3
    assert turnover(D(3000), D(0)) is None
    assert turnover(D(3000), D(-5)) is None
