"""Isolated margin: formulas against an exchange's own example, and what no price path may do."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import T0
from trading.perps import isolated
from trading.perps.isolated import FLAT, Isolated, Moment

D = Decimal
UNIT = D("0.000001")

sides = st.sampled_from([1, -1])
leverages = st.integers(1, 50).map(D)
prices = st.decimals("0.01", "100000", places=2)
sizes = st.decimals("0.001", "1000", places=3)
rates = st.sampled_from([D(0), D("0.0001"), D("-0.0001"), D("0.01"), D("-0.01"), D("0.5"), D("-0.5")])


def entered(sign: int, size: Decimal, price: Decimal, leverage: Decimal) -> tuple[Isolated, Decimal]:
    """A position, and the margin that it took."""
    cash = (size * price).quantize(UNIT)
    return isolated.traded(FLAT, sign * size, cash, leverage), isolated.initial_margin(cash, leverage)


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    """A bar of any kind, far from the one before; some charge funding."""
    low, high = sorted((draw(prices), draw(prices)))
    return Moment(T0, low, high, draw(st.sampled_from([low, high])), draw(rates))


def test_the_liquidation_price_is_that_of_the_example_in_hyperliquids_documents() -> None:
    """clearinghouseState in
    https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals: 0.0335 ETH at 2986.3,
    isolated 20x, rawUsd -95.059824, maxLeverage 50, value 100.02765, marginUsed 4.967826, liquidationPx 2866.26936529.
    """
    held = Isolated(D("0.0335"), D("-95.059824"))
    level = isolated.liquidation_price(held, isolated.maintenance(D(50)))

    assert level is not None
    assert abs(level - D("2866.26936529")) < D("0.00002"), (
        "theirs, of rounded numbers, differs in the fifth decimal"
    )
    assert held.equity(D("100.02765") / D("0.0335")).quantize(UNIT) == D("4.967826")


def test_it_is_the_formula_of_their_page_on_liquidations() -> None:
    """liq_price = price - side × margin_available / position_size / (1 - l × side), of margin_available = isolated
    margin - maintenance margin, l = 1 / maintenance leverage, with a short as well."""
    for sign in (1, -1):
        held, margin = entered(sign, D(2), D(1000), D(5))
        fraction = isolated.maintenance(D(10))
        available = margin - fraction * 2 * 1000
        expected = 1000 - sign * available / 2 / (1 - fraction * sign)
        level = isolated.liquidation_price(held, fraction)
        assert level is not None
        assert abs(level - expected) < D("1e-18")


@given(sides, sizes, prices, leverages, st.integers(2, 50).map(D))
def test_at_the_liquidation_price_the_equity_is_the_maintenance_margin(
    sign: int, size: Decimal, price: Decimal, leverage: Decimal, most: Decimal
) -> None:
    held, _ = entered(sign, size, price, min(leverage, most))
    fraction = isolated.maintenance(most)
    level = isolated.liquidation_price(held, fraction)
    if level is None:
        assert sign == 1, "a short has always a price that liquidates it"
        assert held.cash >= 0, "and a long only where it was paid for in full"
        return
    assert not isolated.is_liquidated(held, price, fraction), "no entry is liquidated at its own price"
    beyond, before = level * (1 - sign * D("1e-9")), level * (1 + sign * D("1e-9"))
    assert isolated.is_liquidated(held, beyond, fraction)
    assert not isolated.is_liquidated(held, before, fraction)
    ratio = isolated.margin_ratio(sign, level, level, fraction)
    assert ratio is not None
    assert abs(ratio - 1) < D("1e-12")
    assert isolated.room(sign, level, level, price, leverage) == 0


@given(sides, sizes, prices, st.integers(2, 50).map(D), prices)
def test_the_margin_ratio_is_maintenance_by_equity(
    sign: int, size: Decimal, price: Decimal, leverage: Decimal, now: Decimal
) -> None:
    held, _ = entered(sign, size, price, leverage)
    fraction = isolated.maintenance(D(50))
    level = isolated.liquidation_price(held, fraction)
    equity = held.equity(now)
    if level is None or abs(equity) < D("0.01"):
        return
    ratio = isolated.margin_ratio(sign, now, level, fraction)
    if equity < 0:
        assert ratio is None
    else:
        assert ratio is not None
        assert abs(ratio - fraction * size * now / equity) < ratio * D("1e-6")


@given(sides, sizes, prices, leverages, st.lists(moments(), max_size=12), st.integers(1, 99).map(D))
def test_no_price_path_takes_more_than_the_margin(
    sign: int, size: Decimal, price: Decimal, leverage: Decimal, path: list[Moment], maintenance_pct: Decimal
) -> None:
    """Gaps and absurd funding included: liquidated it loses its margin, and alive it has some left."""
    fraction = maintenance_pct / 100 / leverage
    held, margin = entered(sign, size, price, leverage)
    lived = isolated.live(held, path, fraction)
    paid = sum((amount for _, amount in lived.paid), D(0))

    assert lived.held.tokens == held.tokens
    assert lived.held.cash == held.cash + paid, "nothing but funding touches the cash"
    if lived.liquidated_at is not None:
        at = isolated.bankruptcy_price(lived.held)
        assert at > 0
        result = sign * (at - price) * size + paid
        assert abs(result + margin) <= UNIT, "the loss of a liquidation is the margin, funding included"
    elif path:
        assert lived.held.equity(path[-1].close) > 0


@given(
    sides, sizes, prices, leverages, st.decimals("0.001", "0.999", places=3), st.lists(moments(), max_size=6)
)
def test_closing_in_parts_returns_no_less_than_nothing(
    sign: int, size: Decimal, price: Decimal, leverage: Decimal, part: Decimal, path: list[Moment]
) -> None:
    held, _ = entered(sign, size, price, leverage)
    lived = isolated.live(held, path, isolated.maintenance(leverage) if leverage > 1 else D("0.25"))
    if lived.liquidated_at is not None or not path:
        return
    now, half = path[-1].close, (size * part).quantize(D("1e-18"))
    first = isolated.traded(lived.held, -sign * half, half * now, leverage)
    last = isolated.traded(first, -sign * (size - half), (size - half) * now, leverage)

    assert first.tokens == sign * (size - half)
    assert last == FLAT
    returned = lived.held.cash - first.cash + sign * half * now
    assert returned >= -UNIT
    assert first.equity(now) >= -UNIT


@given(sizes, prices, rates)
def test_longs_pay_what_shorts_receive(size: Decimal, price: Decimal, rate: Decimal) -> None:
    long, _ = entered(1, size, price, D(1))
    short, _ = entered(-1, size, price, D(1))
    paid, received = isolated.funding(long, price, rate), isolated.funding(short, price, rate)

    assert paid * rate <= 0
    assert received * rate >= 0 or abs(received) <= UNIT
    assert -UNIT <= paid + received <= 0, "rounded against both, by less than a base unit each"
    assert abs(paid + rate * size * price) < UNIT


def test_funding_never_takes_more_than_the_equity() -> None:
    held, margin = entered(1, D(1), D(1000), D(10))
    assert isolated.funding(held, D(1000), D("0.5")) == -margin
    assert isolated.funding(held, D(901), D("0.5")) == -1


@pytest.mark.parametrize("sign", [1, -1])
def test_inside_a_bar_the_worst_price_comes_first(sign: int) -> None:
    """The bar reaches the stop and the liquidation price and closes with a profit: it was liquidated."""
    held, _ = entered(sign, D(1), D(1000), D(10))
    worst, best = D(1000) - sign * 60, D(1000) + sign * 50
    bar = Moment(T0 + timedelta(minutes=5), min(worst, best), max(worst, best), best, D("0.0001"))
    lived = isolated.live(held, [bar], isolated.maintenance(D(10)))

    assert lived.liquidated_at == bar.at
    assert lived.paid == (), "before funding at its end"
    assert isolated.bankruptcy_price(lived.held) == 1000 - sign * 100


def test_a_trade_beyond_what_is_held_opens_the_other_side() -> None:
    held, _ = entered(1, D(1), D(1000), D(10))
    turned = isolated.traded(held, D(-3), D(3300), D(5))
    assert turned == isolated.traded(FLAT, D(-2), D(2200), D(5))
