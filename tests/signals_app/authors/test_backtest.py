"""Backtest of one call: entry, exit, costs and excursions."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signals_app.authors.backtest import (
    BAR_SECONDS,
    Entries,
    Outcome,
    Series,
    Side,
    Terms,
    outcomes,
    pumped,
)

HOUR = timedelta(hours=1)
TERMS = Terms(take_profit_pct=10, stop_loss_pct=5, cost_pct=0.3)


def path(*bars: tuple[float, float, float, float], start: int = 0, fill: int = 12) -> Series:
    """Bars (open, high, low, close); the last close goes on, flat, until there are `fill` bars."""
    last = bars[-1][3]
    rows = np.array([*bars, *[(last, last, last, last)] * (fill - len(bars))], dtype=float)
    opened = start + BAR_SECONDS * np.arange(len(rows), dtype=np.int64)
    return Series(opened, *(rows[:, column] for column in range(4)))


def held(series: Series, side: Side = "long", horizon: timedelta = HOUR) -> Outcome:
    return outcomes(series, 0, side, [horizon], TERMS)[horizon]


def test_a_call_enters_at_the_open_of_the_next_bar_and_not_of_its_own() -> None:
    series = path((100, 100, 100, 100), start=600)

    assert series.entry(600) == 0  # known at the very moment of the open
    assert series.entry(601) == 1
    assert series.entry(-3000) == 0
    assert series.entry(-3001) is None, "an hour without a market"
    assert series.entry(600 + 12 * BAR_SECONDS) is None, "the bars are over"


@pytest.mark.parametrize(
    ("bar", "side", "exit_by", "gross"),
    [
        ((100, 111, 99, 105), "long", "target", 10),
        ((100, 101, 94, 100), "long", "stop", -5),
        ((100, 111, 94, 105), "long", "stop", -5),  # both in one bar: the stop came first (F26)
        ((100, 101, 89, 95), "short", "target", 10),
        ((100, 106, 89, 95), "short", "stop", -5),
        ((100, 104, 97, 102), "long", "time", 2),
        ((100, 104, 97, 102), "short", "time", -2),
    ],
)
def test_it_leaves_along_the_path(
    bar: tuple[float, float, float, float], side: Side, exit_by: str, gross: float
) -> None:
    found = held(path((100, 100, 100, 100), bar), side)

    assert (found.exit_by, round(found.gross_pct, 9)) == (exit_by, gross)
    assert found.net_pct == pytest.approx(gross - 0.3)


def test_a_gap_beyond_the_stop_fills_there_and_one_beyond_the_target_at_the_target() -> None:
    assert held(path((100, 100, 100, 100), (90, 91, 89, 90))).gross_pct == pytest.approx(-10)
    assert held(path((100, 100, 100, 100), (120, 121, 119, 120))).gross_pct == 10


def test_the_first_exit_ends_the_trade() -> None:
    found = held(path((100, 100, 94, 96), (96, 130, 96, 130)))

    assert found.exit_by == "stop"
    assert found.favourable_pct == 0, "the stop's own bar counts for nothing that may have come after"


def test_excursions_end_with_the_exit() -> None:
    found = held(path((100, 107, 98, 106), (106, 111, 97, 100), (100, 130, 50, 60)))

    assert (found.exit_by, found.favourable_pct) == ("target", 10)
    assert found.adverse_pct == pytest.approx(3), "the target's bar may have fallen first"


def test_a_horizon_that_has_not_ended_is_left_out_even_after_an_early_exit() -> None:
    series = path((100, 111, 99, 105), fill=12)

    assert set(outcomes(series, 0, "long", [HOUR, 2 * HOUR], TERMS)) == {HOUR}


def test_what_comes_after_the_moment_does_not_exist() -> None:
    series = path((100, 100, 100, 100))

    assert len(series.known_by(2 * BAR_SECONDS).opened) == 2
    assert len(series.known_by(2 * BAR_SECONDS - 1).opened) == 1
    assert series.known_by(0).until == 0


def test_a_pump_runs_and_then_falls() -> None:
    calm = [(100.0, 100.0, 100.0, 100.0)] * 5
    pump = path(*calm, (100, 104, 100, 104), (104, 104, 95, 95), fill=300)

    assert pumped(pump, 0, "long")
    assert not pumped(pump, 0, "short")
    assert not pumped(path(*calm, (100, 104, 100, 104), fill=300), 0, "long")
    assert pumped(path(*calm, fill=200), 0, "long") is None


prices = st.lists(st.floats(50, 200), min_size=13, max_size=40)


@given(prices, st.sampled_from(["long", "short"]))
def test_no_outcome_is_better_than_the_target_or_than_its_best_moment(
    closes: list[float], side: Side
) -> None:
    bars = [
        (before, max(before, after) * 1.01, min(before, after) * 0.99, after)
        for before, after in pairwise(closes)
    ]
    found = held(path(*bars, fill=len(bars)), side)

    assert found.gross_pct <= TERMS.take_profit_pct
    assert found.gross_pct <= found.favourable_pct + 1e-9
    assert -found.adverse_pct <= found.gross_pct + 1e-9
    assert min(found.favourable_pct, found.adverse_pct) >= 0


@pytest.mark.parametrize("side", ["long", "short"])
@given(st.data())
def test_many_entries_together_give_what_each_gives_by_itself(side: Side, data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(1, 700))
    close = 100 * np.exp(np.cumsum(random.normal(0, data.draw(st.sampled_from([0.001, 0.01, 0.05])), count)))
    opens = close * np.exp(random.normal(0, 0.005, count))
    high, low = np.maximum(opens, close) * 1.002, np.minimum(opens, close) * 0.998
    gaps = random.choice([1, 1, 1, 1, 1, 1, 40], count)
    series = Series(BAR_SECONDS * np.cumsum(gaps, dtype=np.int64), opens, high, low, close)
    moments = np.sort(random.integers(0, BAR_SECONDS * (count + 50), 40))
    horizons = [timedelta(minutes=15), HOUR, timedelta(days=1), timedelta(days=30)]

    places = [place for moment in moments if (place := series.entry(moment)) is not None]
    assert series.entries(moments).tolist() == places

    entries = Entries(series, series.entries(moments), side)
    alone = [outcomes(series, place, side, horizons, TERMS) for place in places]
    assert entries.nets(horizons, TERMS) == {
        horizon: [found[horizon].net_pct for found in alone if horizon in found] for horizon in horizons
    }, "to the last digit"
    known = [pumped(series, place, side) for place in places]
    assert entries.pumped() == [pump for pump in known if pump is not None]
