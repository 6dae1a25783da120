"""A paper fill is never better than the quote, whatever instrument, price and size; and nothing divides by zero."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from maxxit.market.instruments import all_instruments, instrument
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading.models import PaperFill, PaperOrder
from trading.venues import paper
from trading.venues.base import Prepared
from trading.venues.paper import PaperVenue

symbols = st.sampled_from(sorted(all_instruments()))
sides = st.sampled_from(["buy", "sell"])
prices = st.decimals("0.00000001", "10000000", places=8)


@given(symbols, sides, prices)
def test_a_price_on_a_tick_is_never_better(symbol: str, side: str, price: Decimal) -> None:
    token = instrument(symbol)
    rounded = token.round_price_against(price, side)

    assert rounded % token.tick == 0
    assert abs(rounded - price) < token.tick
    assert rounded >= price if side == "buy" else rounded <= price


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    symbols,
    sides,
    prices,
    st.integers(1, 10**6),
    st.sampled_from([0, 1, 20, 9_999]),
    st.sampled_from([1, 10_000]),
)
def test_a_fill_is_never_better_than_the_quote(
    time: RecordedClock, symbol: str, side: str, price: Decimal, lots: int, slippage: int, depth: int
) -> None:
    make.price(symbol, str(price))
    venue = PaperVenue(slippage_bps=slippage, fee_bps=0, depth_usd=depth)
    quantity = instrument(symbol).lot * lots
    PaperFill.objects.all().delete()
    PaperOrder.objects.all().delete()
    order = PaperOrder.objects.create(
        client_order_id="x", account="a", symbol=symbol, side=side, quantity=quantity, accepted_at=T0
    )

    venue._match([order], paper._quotes([symbol]))

    for fill in order.fills.all():
        assert 0 < fill.quantity <= quantity
        assert fill.price >= price if side == "buy" else fill.price <= price
        assert fill.cash >= fill.quantity * price if side == "buy" else fill.cash <= fill.quantity * price


@pytest.mark.django_db
def test_an_order_of_no_quantity_is_rejected(time: RecordedClock) -> None:
    make.price("ETH", "2000")
    venue = PaperVenue(slippage_bps=0, fee_bps=0, depth_usd=1)
    terms = {"account": "a", "symbol": "ETH", "side": "buy", "quantity": "0"}
    payload = terms | {
        "deadline": (T0 + timedelta(minutes=5)).isoformat(),
        "urgent": "False",
        "reference_price": "1",
    }

    with pytest.raises(Rejected) as refused:
        venue.send(Prepared("x", payload))
    assert refused.value.code == "no_quantity"
    assert not PaperOrder.objects.exists()
