"""The worked examples of docs/figures.md: each right-hand column is computed again from the left-hand ones."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from math import sqrt
from typing import Any

import numpy as np
import pytest

from maxxit.core.config import ROOT
from maxxit.core.money import split
from maxxit.core.terms import Side
from positions.performance import returns
from positions.performance.lots import LotFill, Lots, closed_lots
from positions.performance.trades import ClosedTrade, median_held_seconds, statistics, sums_of, turnover
from signals_app.evidence.base import Call
from signals_app.evidence.posts import shares, weight

PAGE = (ROOT / "docs/figures.md").read_text().partition("## Worked examples")[2]
HOUR = 3600
Table = list[list[str]]


def section(heading: str) -> str:
    """The text of a worked example."""
    text = PAGE.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    assert text, heading
    return text


def tables(heading: str) -> list[Table]:
    """The rows of each table of a worked example, without their heads."""
    blocks = groupby(section(heading).splitlines(), key=lambda line: line.startswith("|"))
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in list(lines)[2:]]
        for in_table, lines in blocks
        if in_table
    ]


def prose(heading: str) -> str:
    """The text around the tables, in one line."""
    return " ".join(line for line in section(heading).splitlines() if not line.startswith("|"))


def number(cell: str) -> Decimal:
    return Decimal(cell.replace(",", "").replace("−", "-") or 0)


def units(cell: str) -> int:
    return int(number(cell) * 1_000_000)


def seconds(cell: str) -> float:
    return datetime.fromisoformat(cell).replace(tzinfo=UTC).timestamp()


def shown(value: Any, cell: str) -> bool:
    """Whether a value, rounded as the cell is, is what the cell shows."""
    stated = number(cell)
    return bool(round(Decimal(value), -int(stated.as_tuple().exponent)) == stated)


def joined(rows: Table) -> returns.Curve:
    """The curve of rows (date, equity before the flow, flow, …) of one deployment."""
    return returns.curve_of((seconds(row[0]), 1, units(row[1]), units(row[2])) for row in rows)


def test_the_time_weighted_return() -> None:
    (rows,) = tables("Time-weighted return")
    curve, text = joined(rows), prose("Time-weighted return")

    assert curve.equity.tolist() == [units(row[3]) for row in rows]
    assert all(shown(index, row[4]) for index, row in zip(curve.index, rows, strict=True))
    [twr] = re.findall(r"the TWR is ([\d.]+) %", text)
    [apr] = re.findall(r"365 / 30 = ([\d.]+) %", text)
    [earned] = re.findall(r"has (\d+) USD more", text)
    rate = returns.apr(curve, 20)
    assert shown(100 * (returns.twr(curve) or 0), twr)
    assert isinstance(rate, float)
    assert shown(100 * rate, apr)
    assert int(curve.equity[-1] - curve.flow.sum()) == units(earned)


def test_two_deployments() -> None:
    (rows,) = tables("Two deployments")
    points = [
        (seconds(row[0]), owner, units(row[place]), units(row[place + 1]))
        for row in rows
        for owner, place in ((1, 1), (2, 3))
        if row[place]
    ]
    curve = returns.curve_of(points)

    assert (curve.equity - curve.flow).tolist() == [units(row[5]) for row in rows]
    assert curve.equity.tolist() == [units(row[6]) for row in rows]
    assert all(shown(index, row[7]) for index, row in zip(curve.index, rows, strict=True))


def test_the_money_weighted_return() -> None:
    (rows,) = tables("Money-weighted return")
    curve, text = joined(rows), prose("Money-weighted return")
    [annual] = re.findall(r"the MWR is ([\d.]+) % a year", text)
    [period, days] = re.findall(r"([\d.]+) % over the (\d+) days", text)[0]
    [twr] = re.findall(r"− 1 = ([\d.]+) %", text)
    rate = returns.mwr(curve)

    assert rate.annual is not None
    assert rate.period is not None
    assert shown(100 * rate.annual, annual)
    assert shown(100 * rate.period, period)
    assert shown(100 * (returns.twr(curve) or 0), twr)
    assert curve.at[-1] - curve.at[0] == int(days) * returns.DAY
    for at, row in zip(curve.at, rows[:-1], strict=False):
        years = float(curve.at[-1] - at) / returns.YEAR
        assert shown(float(number(row[2])) * (1 + rate.annual) ** years, row[3])
    assert sum(number(row[3]) for row in rows) == number(rows[-1][1])


def test_the_drawdown() -> None:
    (rows,) = tables("Drawdown")
    curve = returns.curve_of((seconds(row[0]), 1, units(row[1]), 0) for row in rows)
    [percent, *dates] = re.findall(
        r"is ([\d.]+) %, from (\S+) to (\S+), recovered on ([\d-]+)", prose("Drawdown")
    )[0]
    drawdown = returns.max_drawdown(curve)

    assert np.maximum.accumulate(curve.equity).tolist() == [units(row[2]) for row in rows]
    assert all(shown(below, row[3]) for below, row in zip(returns.underwater(curve), rows, strict=True))
    assert drawdown
    assert shown(drawdown.percent, percent)
    moments = (drawdown.peak_at, drawdown.trough_at, drawdown.recovered_at)
    assert [f"{moment:%Y-%m-%d}" for moment in moments if moment] == dates


def test_sharpe_and_sortino() -> None:
    (rows,) = tables("Sharpe and Sortino")
    daily = np.array([float(number(row[1])) / 100 for row in rows])
    text = prose("Sharpe and Sortino")
    [sharpe] = re.findall(r"Sharpe ratio .*?√365 = ([\d.]+\d)", text)
    [volatility] = re.findall(r"the volatility .*?√365 = ([\d.]+) %", text)
    [sortino] = re.findall(r"Sortino ratio .*?√365 = ([\d.]+\d)", text)

    assert (np.minimum(100 * daily, 0) ** 2).tolist() == [float(number(row[2])) for row in rows]
    assert shown(100 * returns.volatility(daily), volatility)
    assert shown(returns.sharpe(daily), sharpe)
    assert shown(returns.sortino(daily), sortino)


def test_win_rate_and_results() -> None:
    positions, figures = tables("Win rate and results")
    trades = [ClosedTrade(number(row[1]), int(row[2]) * HOUR, number(row[3])) for row in positions]
    found = statistics(sums_of(trades))
    median = median_held_seconds(trade.held_seconds for trade in trades)
    [equity] = re.findall(r"mean equity of (\d+) USD", section("Win rate and results"))
    values = (
        found.win_rate,
        found.win_rate_low,
        found.win_rate_high,
        found.profit_factor,
        found.expectancy,
        found.average_win,
        found.average_loss,
        found.payoff,
        median and median / HOUR,
        turnover(found.traded, Decimal(equity)),
    )

    for value, (name, _, cell) in zip(values, figures, strict=True):
        assert shown(value, cell), name


@pytest.mark.parametrize("row", range(10))
def test_each_calculation_by_hand_gives_its_value(row: int) -> None:
    _, figures = tables("Win rate and results")
    name, by_hand, cell = figures[row]
    if not re.search(r"\d", by_hand):
        return
    expression = by_hand.replace("√", "sqrt").replace("−", "-").replace("×", "*").replace(",", "")

    assert eval(expression, {"sqrt": sqrt}) == pytest.approx(float(number(cell)), abs=1e-4), name


def test_fifo_lots() -> None:
    fills, expected = tables("FIFO lots")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    lots = Lots()
    rows = []
    for name, side, *amounts in fills:
        quantity, cash, fee = map(number, amounts)
        rows.append(LotFill(int(name), start + timedelta(days=int(name)), side, quantity, cash, fee))
    closed = list(closed_lots(rows, lots))
    parts = [
        [lot.opening.id, lot.closing.id, lot.side, lot.quantity, lot.proceeds, lot.cost, lot.fees, lot.gain]
        for lot in closed
    ]
    left = [[lot.fill.id, "open", lot.side, lot.quantity, lot.cash, lot.fee] for lot in lots.open]

    assert parts == [[int(row[0]), int(row[1]), row[2], *map(number, row[3:])] for row in expected[:-1]]
    assert left == [
        [int(row[0]), row[1], row[2], *map(number, (row[3], row[4], row[6]))] for row in expected[-1:]
    ]
    text = prose("FIFO lots")
    [gains, brought, total] = re.findall(
        r"gains are ([\d.]+\d), .* in ([\d.]+\d): together ([\d.]+\d)", text
    )[0]
    assert sum(lot.gain for lot in closed) == number(gains)
    assert sum(lot.flow for lot in lots.open) == number(brought)
    assert number(gains) + number(brought) == number(total)
    assert eval(text.rpartition(":")[2].strip().rstrip(".").replace("−", "-")) == pytest.approx(float(total))


def test_a_trade_is_attributed_to_its_authors() -> None:
    posts, authors = tables("Attribution to authors")
    calls = [Call(int(row[0]), Side.LONG, number(row[2]), number(row[3]), 0) for row in posts]
    [earned] = re.findall(r"earned ([\d.]+) USDC", prose("Attribution to authors"))
    of_author = [sum((number(row[5]) for row in posts if row[1] == name), Decimal(0)) for name, *_ in authors]

    assert [weight(call) for call in calls] == [number(row[4]) for row in posts]
    assert list(shares(calls).values()) == [number(row[5]) for row in posts]
    assert split(number(earned), of_author) == [number(row[1]) for row in authors]
    assert of_author == [number(row[2]) for row in authors]
