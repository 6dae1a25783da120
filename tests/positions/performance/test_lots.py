"""FIFO lots: exact to the USDC base unit, oldest first, streamed."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.money import USDC_UNIT, exactly
from maxxit.core.terms import Side
from positions.performance.lots import ClosedLot, LotFill, Lots, closed_lots

D = Decimal
START = datetime(2026, 1, 1, tzinfo=UTC)
money = st.integers(0, 10**13).map(lambda units: units * USDC_UNIT)
quantities = st.one_of(
    st.sampled_from((D(1), D(2), D(3))), st.integers(1, 10**24).map(lambda units: units * D("1e-18"))
)


@st.composite
def fills(draw: st.DrawFn) -> list[LotFill]:
    """Up to 30 fills, some at the same moment."""
    rows, at = [], START
    for number in range(draw(st.integers(0, 30))):
        at += timedelta(seconds=draw(st.integers(0, 2)))
        side = draw(st.sampled_from(("buy", "sell")))
        fee = draw(st.integers(0, 10**7)) * USDC_UNIT
        rows.append(LotFill(number, at, side, draw(quantities), draw(money), fee))
    return rows


def total(amounts: Iterator[Decimal]) -> Decimal:
    with exactly():
        return sum(amounts, D(0))


def flow(fill: LotFill) -> Decimal:
    return (fill.cash if fill.side == "sell" else -fill.cash) - fill.fee


@given(fills())
def test_gains_and_open_lots_add_up_to_the_cash_of_the_fills_to_the_unit(rows: list[LotFill]) -> None:
    lots = Lots()
    closed = list(closed_lots(rows, lots))
    with exactly():
        assert total(lot.gain for lot in closed) + total(lot.flow for lot in lots.open) == total(
            map(flow, rows)
        )
    for lot in closed:
        for amount in (lot.proceeds, lot.cost, lot.fees):
            assert amount >= 0
            assert amount % USDC_UNIT == 0


@given(fills())
def test_cash_fee_and_quantity_of_each_fill_are_divided_among_its_lots(rows: list[LotFill]) -> None:
    lots = Lots()
    parts: dict[int, list[Decimal]] = defaultdict(lambda: [D(0), D(0)])
    fees = D(0)
    with exactly():
        for lot in closed_lots(rows, lots):
            opened, closed = (lot.cost, lot.proceeds) if lot.side is Side.LONG else (lot.proceeds, lot.cost)
            for fill, cash in ((lot.opening, opened), (lot.closing, closed)):
                parts[fill.id][0] += lot.quantity
                parts[fill.id][1] += cash
            fees += lot.fees
        for left in lots.open:
            parts[left.fill.id][0] += left.quantity
            parts[left.fill.id][1] += left.cash
            fees += left.fee

    assert dict(parts) == {fill.id: [fill.quantity, fill.cash] for fill in rows}
    assert fees == total(fill.fee for fill in rows)


@given(fills())
def test_the_oldest_lot_is_closed_first_and_lots_are_of_one_side(rows: list[LotFill]) -> None:
    lots = Lots()
    closed = list(closed_lots(rows, lots))
    with exactly():
        net = sum((fill.quantity if fill.side == "buy" else -fill.quantity for fill in rows), D(0))
        left = sum((lot.quantity if lot.side is Side.LONG else -lot.quantity for lot in lots.open), D(0))

    assert left == net
    assert len({lot.side for lot in lots.open}) <= 1
    for earlier, later in pairwise(closed):
        assert earlier.opening.id <= later.opening.id
        assert earlier.closing.id <= later.closing.id
    for lot in closed:
        assert lot.opening.id < lot.closing.id
        assert lot.opening.side != lot.closing.side


def test_a_short_lot_is_sold_first_and_acquired_later() -> None:
    hour = timedelta(hours=1)
    (lot,) = closed_lots(
        [
            LotFill(1, START, "sell", D(2), D(200), D("0.4"), "a"),
            LotFill(2, START + hour, "buy", D(2), D(150), D("0.3"), "b"),
        ]
    )

    assert (lot.side, lot.sold, lot.acquired) == (Side.SHORT, START, START + hour)
    assert (lot.proceeds, lot.cost, lot.fees, lot.gain) == (D(200), D(150), D("0.7"), D("49.3"))


def test_a_larger_sale_closes_the_long_lot_and_opens_a_short_one() -> None:
    lots = Lots()
    (lot,) = closed_lots(
        [LotFill(1, START, "buy", D(1), D(100)), LotFill(2, START, "sell", D(3), D(100), D("0.000001"))], lots
    )

    assert (lot.quantity, lot.proceeds, lot.fees) == (1, D("33.333333"), 0)
    (short,) = lots.open
    assert (short.side, short.quantity, short.cash, short.fee) == (
        Side.SHORT,
        2,
        D("66.666667"),
        D("0.000001"),
    )


def test_only_open_lots_are_kept() -> None:
    lots, most = Lots(), 0

    def many() -> Iterator[LotFill]:
        nonlocal most
        for number in range(3_000):
            most = max(most, len(lots.open))
            yield LotFill(number, START, "buy" if number % 3 else "sell", D(2 - (number % 3 > 0)), D(10))

    stream = closed_lots(many(), lots)
    assert isinstance(next(stream), ClosedLot)
    assert sum(1 for _ in stream) > 1_000
    assert most <= 3


def test_a_fill_out_of_order_or_without_quantity_is_refused() -> None:
    lots = Lots()
    lots.apply(LotFill(1, START, "buy", D(1), D(1)))

    with pytest.raises(ValueError, match="older than the one before"):
        lots.apply(LotFill(2, START - timedelta(seconds=1), "sell", D(1), D(1)))
    with pytest.raises(ValueError, match="must be positive"):
        lots.apply(LotFill(3, START, "sell", D(0), D(1)))
