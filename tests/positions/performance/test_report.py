"""The figures of a span, from points, closed positions and books, on a history that a reader can follow."""

import json
from decimal import Decimal as D

import pytest

from maxxit.core import clock
from positions.performance import points
from positions.performance.report import performance
from positions.performance.returns import NotEnough
from tests import builders as make
from tests.positions.performance.test_points import paid
from tests.positions.test_book import again, entered, fills, leaving
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader


def play(trader: Trader) -> None:
    """Win 158.8 after fees 1.2 (share 20 %), then deposit 90,000, then hold 0.4 ETH that falls by 12."""
    points.take_points()
    position = entered(trader)
    trader.time.move(hours=24)
    fills(leaving(trader, position), "0.4", usd="2400")
    again(position)
    points.take_points()
    trader.time.move(hours=1)
    paid(trader, "90000")
    points.take_points()
    trader.time.move(hours=23)
    make.price("ETH", "2000")
    entered(trader)
    make.price("ETH", "1970")
    points.take_points()


def test_figures_of_all_time(trader: Trader) -> None:
    play(trader)

    shown = performance([trader.deployment.pk])
    assert (shown.deposits, shown.withdrawals) == (D(100_000), 0)
    assert shown.closed.net == D("158.8") - D("31.76")
    assert shown.pnl == shown.closed.net - D("12.7") == shown.books.pnl
    assert shown.equity == D(100_000) + shown.pnl
    assert shown.open_pnl == D("-12.7")
    before = 10_000 + 127.04
    assert shown.twr == pytest.approx(
        before / 10_000 * (before + 90_000 - 12.7) / (before + 90_000) - 1, rel=1e-12
    )
    assert shown.apr == NotEnough(2, 30, "days")
    assert isinstance(shown.risk, NotEnough)
    assert shown.statistics.win_rate == 1
    assert shown.median_held_seconds == 24 * 3600 + 300
    assert shown.oldest_quote_at is not None
    json.dumps(shown.as_json())


def test_a_span_counts_from_its_own_beginning(trader: Trader) -> None:
    play(trader)
    since = clock.now().replace(hour=0, minute=0)

    shown = performance([trader.deployment.pk], since)
    assert (shown.pnl, shown.deposits, shown.closed.closed) == (D("-12.7"), 0, 0)
    assert shown.books.pnl == D("127.04") - D("12.7")


def test_of_nothing_there_is_nothing(trader: Trader) -> None:
    shown = performance([])

    assert (shown.equity, shown.pnl, shown.twr, shown.drawdown) == (0, 0, None, None)
    json.dumps(shown.as_json())
