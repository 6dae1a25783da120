"""Monte Carlo of closed trades: bounds that hold for every order and every slippage."""

from itertools import accumulate, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.backtest import monte_carlo
from maxxit.backtest.monte_carlo import shuffled_orders, worse_fills

UNITS = st.integers(-(10**12), 10**12)
RESULTS = st.lists(UNITS, min_size=1, max_size=12)


def drawdown(results: list[int]) -> int:
    """The largest decline from an earlier highest sum, step by step."""
    peak = worst = 0
    for value in accumulate(results):
        peak = max(peak, value)
        worst = max(worst, peak - value)
    return worst


@given(RESULTS, st.integers(0, 10**12), st.integers(0, 5))
def test_no_order_falls_less_than_its_worst_trade_or_more_than_all_losses(
    results: list[int], capital: int, seed: int
) -> None:
    found = shuffled_orders(results, capital, draws=50, seed=seed)

    assert found.drawdown == drawdown(results)
    losses = [-one for one in results if one < 0]
    least, most = max([0, -sum(results), *losses]), sum(losses)
    shown = found.shuffled
    assert least <= shown.low <= shown.median <= shown.high <= most
    assert 0 <= found.worse_share <= 1
    if most < capital:
        assert found.ruined_share == 0
    if sum(results) < -capital:
        assert found.ruined_share == 1
    assert found == shuffled_orders(results, capital, draws=50, seed=seed)


def test_every_order_is_drawn_equally_often() -> None:
    results = [5, -3, -4, 2]
    falls = sorted(drawdown(list(order)) for order in permutations(results))

    found = shuffled_orders(results, 100, draws=4_000)

    assert found.shuffled.median in (falls[11], falls[12])
    share = sum(fall > drawdown(results) for fall in falls) / len(falls)
    assert found.worse_share == pytest.approx(share, abs=0.04)


@given(RESULTS, st.data(), st.integers(0, 500))
def test_worse_fills_cost_between_nothing_and_the_largest_slippage(
    results: list[int], data: st.DataObject, bps: int
) -> None:
    amounts = st.lists(st.integers(0, 10**15), min_size=len(results), max_size=len(results))
    traded = data.draw(amounts)

    found = worse_fills(results, traded, bps, draws=40)
    wider = worse_fills(results, traded, bps * 2, draws=40)

    most = sum(amount * bps // 10_000 for amount in traded)
    shown = found.slipped
    assert found.net == sum(results)
    assert found.net - most <= shown.low <= shown.median <= shown.high <= found.net
    assert wider.slipped.median <= shown.median
    if not bps:
        assert shown.low == shown.high == found.net
    assert found.positive_share == 0 or found.net > 0


def test_the_mean_extra_slippage_is_half_of_the_largest() -> None:
    found = worse_fills([0] * 400, [10_000_000_000] * 400, 30, draws=500)

    assert -found.slipped.median == pytest.approx(400 * 15_000_000, rel=0.01)


def test_chunks_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    results, traded = [7, -9, 4, -2], [10**9] * 4
    whole = shuffled_orders(results, 50), worse_fills(results, traded, 30)
    monkeypatch.setattr(monte_carlo, "CHUNK", 64)

    in_parts = shuffled_orders(results, 50), worse_fills(results, traded, 30)

    assert in_parts[0].shuffled == whole[0].shuffled
    assert np.allclose(in_parts[1].slipped.median, whole[1].slipped.median, rtol=0.01)


@pytest.mark.parametrize(("results", "traded"), [([], []), ([1], []), ([1], [-1])])
def test_what_cannot_be_drawn_is_refused(results: list[int], traded: list[int]) -> None:
    with pytest.raises(ValueError, match=r"at least one result|as many amounts"):
        worse_fills(results, traded, 30)
