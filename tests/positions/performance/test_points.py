"""Equity points: one for each change, deposits apart from gains, and thinned with age."""

from datetime import timedelta
from decimal import Decimal as D
from itertools import pairwise

import pytest

from maxxit.core import clock
from positions.models import EquityPoint
from positions.performance import points
from positions.performance.equity import total_equity
from tests import builders as make
from tests.builders import RecordedClock
from tests.positions.test_book import entered
from tests.positions.test_withdrawals import moved
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import ledger
from trading.models import JournalKind

UNIT = 1_000_000
"""USDC base units in a dollar."""


def paid(trader: Trader, usdc: str) -> None:
    """The owner deposits, or withdraws a negative amount."""
    mine = ledger.account_of(trader.deployment.pk)
    source, target = ("external", mine) if D(usdc) > 0 else (mine, "external")
    ledger.post(JournalKind.EXTERNAL, usdc, [ledger.Move(source, target, "USDC", abs(D(usdc)), "external")])


def stored() -> list[tuple[D, D]]:
    """(equity, net deposits) of each point."""
    return [(row.equity, row.deposits) for row in EquityPoint.objects.order_by("at")]


def test_a_point_follows_the_quote_of_what_is_held(trader: Trader) -> None:
    entered(trader)  # 0.4 ETH at 2,000, fees 0.7
    assert points.take_points() == 1
    make.price("ETH", "1970")
    trader.time.move(minutes=5)

    assert points.take_points() == 1
    assert stored() == [(D("9999.3"), D(10_000)), (D("9987.3"), D(10_000))]
    assert stored()[-1][0] == total_equity([trader.deployment.pk])


def test_nothing_is_stored_where_nothing_has_changed(trader: Trader) -> None:
    points.take_points()
    trader.time.move(minutes=5)

    assert points.take_points() == 0
    assert len(stored()) == 1


def test_a_deposit_is_a_flow_and_tokens_of_the_owner_are_none(trader: Trader) -> None:
    points.take_points()
    for amount in ("5000", "-2000"):
        trader.time.move(minutes=5)
        paid(trader, amount)
        points.take_points()
    trader.time.move(minutes=5)
    moved(trader.deployment, "3")

    assert points.take_points() == 0
    assert stored() == [(D(10_000), D(10_000)), (D(15_000), D(15_000)), (D(13_000), D(13_000))]
    assert [(row.equity, row.flow) for row in points.read_points()[:3]] == [
        (10_000 * UNIT, 0),
        (10_000 * UNIT, 5_000 * UNIT),
        (15_000 * UNIT, -2_000 * UNIT),
    ]


def test_a_deployment_that_holds_a_token_without_a_quote_gets_no_point(trader: Trader) -> None:
    position = entered(trader)
    other = make.booked_deployment(trader.agent)
    position.symbol = "ETH"
    make.price("ETH", "2000").delete()

    assert points.take_points() == 1
    assert EquityPoint.objects.get().deployment_id == other.pk


def test_a_span_begins_with_what_was_there(trader: Trader, time: RecordedClock) -> None:
    points.take_points()
    time.move(hours=1)
    since = clock.now()
    time.move(hours=1)
    paid(trader, "500")
    points.take_points()

    rows = points.read_points([trader.deployment.pk], since)
    assert [(row.at, row.equity, row.flow) for row in rows] == [
        (since.timestamp(), 10_000 * UNIT, 0),
        (clock.now().timestamp(), 10_000 * UNIT, 500 * UNIT),
        (clock.now().timestamp(), 10_500 * UNIT, 0),
    ]


def test_old_points_are_thinned_and_none_of_a_flow_is_lost(trader: Trader, time: RecordedClock) -> None:
    start, changed = clock.now(), {90: "700", 1000: "-300"}
    for number in range(12 * 24 * 10):  # ten days of five-minute points
        if number in changed:
            paid(trader, changed[number])
        EquityPoint.objects.create(
            deployment=trader.deployment,
            at=start + timedelta(minutes=5 * number),
            equity=10_000 + number,
            deposits=10_000 + sum(D(usdc) for place, usdc in changed.items() if place <= number),
        )
    time.move(days=10)

    assert points.thin_points() > 0
    assert points.thin_points() == 0
    left = list(EquityPoint.objects.order_by("at"))
    old = [row for row in left if row.at < clock.now() - timedelta(days=7)]
    assert len(left) - len(old) == 12 * 24 * 7
    assert 24 * 3 <= len(old) <= 24 * 3 + 4
    flows = [after.at for before, after in pairwise(left) if before.deposits != after.deposits]
    assert flows == [start + timedelta(minutes=5 * number) for number in changed]
    time.move(days=200)
    points.thin_points()
    assert EquityPoint.objects.count() <= 12 + 4


def test_a_long_span_is_read_in_wider_steps(
    trader: Trader, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = clock.now()
    EquityPoint.objects.bulk_create(
        EquityPoint(
            deployment=trader.deployment, at=start + timedelta(minutes=number), equity=number, deposits=0
        )
        for number in range(600)
    )
    time.move(days=1)
    monkeypatch.setattr(points, "MOST_POINTS", 100)

    rows = points.read_points()
    assert len(rows) == 10 + 1
    assert rows[-2].equity == 599 * UNIT
