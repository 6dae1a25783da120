"""The index ignores flows, rates agree with their definitions and with pyxirr, no input gives infinity or NaN."""

import json
import math
from dataclasses import asdict
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import groupby
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyxirr import xirr

from positions.performance import returns
from positions.performance.returns import (
    DAY,
    MIN_CAPITAL,
    Curve,
    Drawdown,
    MoneyWeighted,
    NotEnough,
    curve,
    curve_of,
    mwr,
    twr,
)
from tests.positions.performance.accounts import START, UNIT, random_history

Row = tuple[int, int, int, int]


@st.composite
def histories(draw: st.DrawFn, deployments: int = 4) -> list[Row]:
    """Points of solvent accounts: each holds at least a cent over `MIN_CAPITAL` after every point."""
    held: dict[int, int] = {}
    rows, at = [], START
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(1, 3 * DAY))
        for owner in sorted(draw(st.sets(st.integers(1, deployments), min_size=1))):
            before = 0
            if owner in held:
                before = held[owner] * draw(st.integers(2_000, 30_000)) // 10_000
            paid = draw(st.sampled_from((0, 0, 1))) * draw(st.integers(-before, 10_000 * UNIT))
            paid = max(paid, MIN_CAPITAL + UNIT // 100 - before)
            held[owner] = before + paid
            rows.append((at, owner, before, paid))
    return rows


def chained(rows: list[Row]) -> list[Fraction]:
    """The definition, moment by moment: multiply by total before / total after the last moment."""
    held: dict[int, int] = {}
    index: list[Fraction] = []
    for _, points in groupby(rows, key=lambda row: row[0]):
        base, gained = sum(held.values()), 0
        for _, owner, before, paid in points:
            gained += before - held.get(owner, before)
            held[owner] = before + paid
        last = index[-1] if index else Fraction(1)
        index.append(last * Fraction(base + gained, base) if base else last)
    return index


@given(histories())
def test_the_index_is_the_product_of_the_returns_between_moments(rows: list[Row]) -> None:
    joined = curve_of(rows)
    held = {owner: before + paid for _, owner, before, paid in rows}

    assert joined.index.tolist() == pytest.approx([float(value) for value in chained(rows)], rel=1e-12)
    assert joined.equity[-1] == sum(held.values())
    assert joined.flow.sum() == sum(paid for *_, paid in rows)
    assert len(joined) == len({at for at, *_ in rows})


@given(histories(1), st.data())
def test_a_point_without_a_flow_can_be_left_out(rows: list[Row], data: st.DataObject) -> None:
    quiet = [place for place, row in enumerate(rows[:-1]) if place and not row[3]]
    left_out = set(data.draw(st.lists(st.sampled_from(quiet)))) if quiet else set()
    kept = [row for place, row in enumerate(rows) if place not in left_out]
    full, thin = curve_of(rows), curve_of(kept)

    assert thin.index.tolist() == [full.index[place] for place in range(len(rows)) if place not in left_out]


@given(histories(), st.data())
def test_a_point_can_be_left_out_unless_another_deployment_has_a_flow_before_its_next_one(
    rows: list[Row], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    at, owner, _, paid = rows[place]
    later = [number for number in range(place + 1, len(rows)) if rows[number][1] == owner]
    if paid or not later or not any(row[1] == owner for row in rows[:place]):
        return
    until = rows[later[0]][0]
    if any(row[3] for row in rows if at <= row[0] < until):
        return
    full, thin = curve_of(rows), curve_of(rows[:place] + rows[place + 1 :])

    assert thin.index[thin.at >= until].tolist() == full.index[full.at >= until].tolist()


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_points_at_the_same_moment_does_not_matter(rows: list[Row], random: Random) -> None:
    shuffled = sorted(random.sample(rows, len(rows)), key=lambda row: row[0])
    joined, again = curve_of(rows), curve_of(shuffled)

    assert joined.index.tolist() == again.index.tolist()
    assert joined.equity.tolist() == again.equity.tolist()


@given(histories(), st.integers(-(10**12), 10**12))
def test_a_flow_does_not_move_the_index(rows: list[Row], paid: int) -> None:
    at, owner, before, _ = rows[-1]

    assert curve_of(rows).index[-1] == curve_of([*rows[:-1], (at, owner, before, paid)]).index[-1]


@given(histories(1), st.data())
def test_a_deposit_of_ten_times_the_equity_changes_nothing(rows: list[Row], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    at, owner, before, paid = rows[place]
    larger = [(later, owner, 11 * worth, 11 * flow) for later, _, worth, flow in rows[place + 1 :]]
    changed = [*rows[:place], (at, owner, before, paid + 10 * (before + paid)), *larger]

    assert curve_of(changed).index.tolist() == pytest.approx(curve_of(rows).index.tolist(), rel=2e-15)
    assert twr(curve_of(changed)) == pytest.approx(twr(curve_of(rows)), rel=2e-15, abs=1e-15)


@given(histories(1))
def test_an_account_in_two_halves_has_the_return_of_the_whole(rows: list[Row]) -> None:
    doubled = [(at, 1, 2 * before, 2 * paid) for at, _, before, paid in rows]
    halves = [(at, owner, before, paid) for at, _, before, paid in rows for owner in (1, 2)]

    assert (
        curve_of(halves).index.tolist() == curve_of(doubled).index.tolist() == curve_of(rows).index.tolist()
    )


@given(histories(), st.data())
def test_the_returns_of_consecutive_spans_multiply_to_that_of_the_whole(
    rows: list[Row], data: st.DataObject
) -> None:
    whole = curve_of(rows)
    cut = data.draw(st.integers(int(whole.at[0]), int(whole.at[-1])))
    first, second = whole.between(None, cut), whole.between(cut, None)
    before, after, total = twr(first), twr(second), twr(whole)

    assert before is not None
    assert after is not None
    assert total is not None
    assert (1 + before) * (1 + after) == pytest.approx(1 + total, rel=1e-12)
    assert first.at[-1] == second.at[0] == cut
    for part in (first, second):
        assert part.flow[0] == part.equity[0]
        assert part.index[0] == 1


def figures(joined: Curve) -> list[object]:
    """Every figure of a curve."""
    daily = returns.daily(joined)
    return [
        twr(joined),
        asdict(mwr(joined)),
        returns.days_with_capital(joined),
        returns.mean_equity(joined),
        daily.returns.tolist(),
        returns.underwater(joined).tolist(),
        joined.index.tolist(),
        returns.sharpe(daily.returns),
        returns.sortino(daily.returns),
        returns.calmar(daily.returns),
        *(asdict(one) if one else None for one in (returns.max_drawdown(joined), returns.risk(joined))),
        returns.apr(joined, 25) if not isinstance(returns.apr(joined, 25), NotEnough) else None,
    ]


amounts = st.one_of(
    st.integers(-(10**15), 10**15),
    st.integers(-3, 3),
    st.sampled_from((0, MIN_CAPITAL, MIN_CAPITAL - 1, 10**15)),
)
points = st.tuples(st.integers(0, 100 * DAY), st.integers(1, 3), amounts, amounts)


@given(st.lists(points, max_size=12), st.integers(0, 100 * DAY), st.integers(0, 100 * DAY))
@settings(deadline=None)
def test_no_history_gives_infinity_or_nan(rows: list[Row], start: int, end: int) -> None:
    joined = curve_of(sorted(rows, key=lambda row: row[0]))
    for part in (joined, joined.between(start, end), joined.between(None, end)):
        json.dumps(figures(part), default=str, allow_nan=False)
        assert (part.index >= 0).all()


def test_an_empty_curve_has_no_figures() -> None:
    empty = curve_of([])

    assert twr(empty) is None
    assert mwr(empty) == MoneyWeighted(None, None, "no deposit")
    assert returns.apr(empty, 99) == NotEnough(0, 30, "days")
    assert returns.risk(empty) == NotEnough(0, 30, "days")
    assert returns.max_drawdown(empty) is None
    assert returns.mean_equity(empty) == 0
    assert len(empty.between(0, 1)) == len(returns.daily(empty).returns) == 0


def test_one_point_has_no_return_yet() -> None:
    single = curve([START], [1], [0], [100 * UNIT])

    assert twr(single) == 0
    assert mwr(single) == MoneyWeighted(None, None, "no time has passed")
    assert returns.max_drawdown(single) == Drawdown(0.0)
    assert len(returns.daily(single).returns) == 0
    assert returns.mean_equity(single) == 100 * UNIT


def test_an_account_without_capital_has_no_return() -> None:
    assert twr(curve([0, DAY], [1, 1], [0, UNIT // 2], [0, 0])) is None


def test_what_is_left_after_a_withdrawal_of_everything_earns_no_return() -> None:
    at, equity, flow = [0, DAY, 2 * DAY], [0, 110 * UNIT, -150_000], [100 * UNIT, -110 * UNIT + 50_000, 0]

    assert twr(curve(at, [1] * 3, equity, flow)) == pytest.approx(0.1)


def test_an_account_that_owes_more_than_it_holds_has_lost_all() -> None:
    joined = curve(
        [0, DAY, 2 * DAY, 3 * DAY], [1] * 4, [0, -UNIT, -UNIT, 80 * UNIT], [50 * UNIT, 0, 60 * UNIT, 0]
    )
    drawdown = returns.max_drawdown(joined)

    assert joined.index.tolist() == [1, 0, 0, 0]
    assert twr(joined) == -1
    assert drawdown
    assert drawdown.percent == 100
    assert twr(joined.between(2 * DAY, None)) is None
    assert returns.daily(joined).returns.tolist() == [-1]


def test_a_loss_of_all_that_recovers_without_a_deposit_is_a_drawdown() -> None:
    joined = curve([0, DAY, 2 * DAY], [1] * 3, [0, -UNIT, 60 * UNIT], [50 * UNIT, 0, 0])

    assert joined.index.tolist() == pytest.approx([1, 0, 1.2])


def test_constant_equity_has_no_sharpe_ratio() -> None:
    flat = curve([day * DAY for day in range(50)], [1] * 50, [0] + [UNIT * 100] * 49, [UNIT * 100] + [0] * 49)
    risk = returns.risk(flat)

    assert isinstance(risk, returns.Risk)
    assert risk.volatility == 0
    assert risk.days == 49
    for ratio in (risk.sharpe, risk.sortino, risk.calmar):
        assert (ratio.value, ratio.low, ratio.high, ratio.days) == (None, None, None, 49)


def test_a_constant_growth_has_no_ratio_that_grows_from_rounding_errors() -> None:
    equity = [round(100 * UNIT * 1_000_000 * 1.01**day) for day in range(60)]
    steady = curve([day * DAY for day in range(60)], [1] * 60, equity, [0] * 60)
    risk = returns.risk(steady)

    assert isinstance(risk, returns.Risk)
    assert risk.sharpe.value is risk.sortino.value is risk.calmar.value is None


def test_a_history_without_a_loss_has_no_upper_bound_of_sortino() -> None:
    grown = [1000 * UNIT]
    for day in range(59):
        grown.append(grown[-1] * (1001 + day % 7) // 1000 if day != 30 else grown[-1] * 999 // 1000)
    risk = returns.risk(curve([day * DAY for day in range(60)], [1] * 60, grown, [0] * 60))

    assert isinstance(risk, returns.Risk)
    assert risk.sortino.value is not None
    assert risk.sortino.low is not None
    assert risk.sortino.high is None


def test_the_interval_encloses_the_ratio_and_is_the_same_each_time() -> None:
    joined = curve(*random_history(3).columns)
    first, again = returns.risk(joined), returns.risk(joined)

    assert isinstance(first, returns.Risk)
    assert first == again
    for ratio in (first.sharpe, first.sortino, first.calmar):
        assert ratio.low is not None
        assert ratio.value is not None
        assert ratio.high is not None
        assert ratio.low < ratio.value < ratio.high


@pytest.mark.parametrize(("days", "tail"), [(30, 0.0081), (365, 0.0213), (100_000, 0.025)])
def test_the_interval_is_wider_for_short_histories(days: int, tail: float) -> None:
    assert returns._tail(days) == pytest.approx(tail, abs=1e-3)


def test_the_interval_leaves_out_that_share_of_the_resamples_at_each_end() -> None:
    joined = curve(*random_history(5).columns)
    daily, risk = returns.daily(joined).returns, returns.risk(joined)
    draws = np.concatenate([returns._sharpe(sample) for sample in returns._resamples(daily)])

    assert isinstance(risk, returns.Risk)
    for outside in (draws < risk.sharpe.low, draws > risk.sharpe.high):
        assert outside.mean() == pytest.approx(returns._tail(len(daily)), abs=2 / returns.DRAWS)


def test_resamples_keep_blocks_of_a_mean_length_together() -> None:
    rows = np.concatenate(list(returns._resamples(np.arange(1000.0))))
    in_a_block = np.diff(rows, axis=1) % 1000 == 1

    assert rows.shape == (returns.DRAWS, 1000)
    assert 1 / (1 - in_a_block.mean()) == pytest.approx(10, rel=0.03)
    assert np.bincount(rows.astype(int).ravel(), minlength=1000) == pytest.approx(returns.DRAWS, rel=0.2)


def test_a_ratio_without_losses_is_infinite_among_the_draws() -> None:
    ratios = returns._divide(np.array([0.1, -0.1, 0.0, 0.1]), np.array([0.0, 0.0, 0.0, 0.2]))

    assert ratios == pytest.approx([math.inf, -math.inf, math.nan, 0.5], nan_ok=True)


def test_days_after_a_total_loss_have_no_return() -> None:
    equity, flow = [0, 0] + [100 * UNIT] * 60, [100 * UNIT, 100 * UNIT] + [0] * 60
    lost = curve([day * DAY for day in range(62)], [1] * 62, equity, flow)

    assert returns.risk(lost) == NotEnough(1, 30, "days")


def test_the_mean_equity_is_weighted_by_time() -> None:
    joined = curve([0, 3 * DAY, 4 * DAY], [1] * 3, [0, 100 * UNIT, 900 * UNIT], [100 * UNIT, 200 * UNIT, 0])

    assert returns.mean_equity(joined) == (3 * 100 + 300) * UNIT // 4


def test_a_drawdown_begins_when_the_index_was_last_at_its_peak() -> None:
    plateau = curve([0, 1, 2, 3], [1] * 4, [0, 8 * UNIT, 6 * UNIT, 8 * UNIT], [8 * UNIT, 0, 0, 0])
    moments = (datetime.fromtimestamp(second, UTC) for second in (1, 2, 3))

    assert returns.max_drawdown(plateau) == Drawdown(25.0, *moments)


def test_an_apr_needs_thirty_days_and_twenty_trades() -> None:
    joined = curve([0, 60 * DAY], [1, 1], [0, 110 * UNIT], [100 * UNIT, 0])

    assert returns.apr(joined, 20) == pytest.approx(0.1 * 365 / 60)
    few, short = returns.apr(joined, 7), returns.apr(joined.between(None, 12.9 * DAY), 20)
    assert returns.apr(joined.between(None, 30 * DAY), 20) == 0
    assert returns.apr(joined.between(None, 30 * DAY - 1), 20) == NotEnough(29, 30, "days")
    assert isinstance(returns.risk(joined.between(None, 30 * DAY)), returns.Risk)
    assert returns.risk(joined.between(None, 30 * DAY - 1)) == NotEnough(29, 30, "days")
    assert isinstance(few, NotEnough)
    assert few.text() == "7 of 20 closed trades"
    assert isinstance(short, NotEnough)
    assert short.text() == "12 of 30 days"


def test_time_without_capital_does_not_count() -> None:
    at, equity = [0, 31 * DAY, 365 * DAY, 400 * DAY], [0, 110 * UNIT, 0, 100 * UNIT]
    joined = curve(at, [1] * 4, equity, [100 * UNIT, -110 * UNIT, 100 * UNIT, 0])

    assert returns.days_with_capital(joined) == 31 + 35
    assert len(returns.daily(joined).returns) == 31 + 35
    assert returns.apr(joined, 20) == pytest.approx(0.1 * 365 / 66)


def test_daily_returns_are_taken_at_midnight() -> None:
    noon = DAY // 2
    joined = curve(
        [noon, DAY - 1, DAY, 2 * DAY + noon, 3 * DAY],
        [1] * 5,
        [0, 110 * UNIT, 121 * UNIT, 60 * UNIT, 66 * UNIT],
        [100 * UNIT, 0, 0, 0, 0],
    )
    daily = returns.daily(joined)

    assert daily.at.tolist() == [noon, DAY, 2 * DAY, 3 * DAY]
    assert daily.index.tolist() == pytest.approx([1, 1.21, 1.21, 0.66])
    assert daily.returns.tolist() == pytest.approx([0.21, 0, 0.66 / 1.21 - 1])


@given(st.lists(st.floats(-0.9, 2), min_size=1, max_size=40))
def test_the_drawdown_is_the_deepest_fall_from_any_earlier_point(moves: list[float]) -> None:
    equity = [10**9]
    for move in moves:
        equity.append(max(round(equity[-1] * (1 + move)), 2 * UNIT))
    joined = curve([START + day for day in range(len(equity))], [1] * len(equity), equity, [0] * len(equity))
    drawdown = returns.max_drawdown(joined)
    falls = [1 - late / early for place, early in enumerate(equity) for late in equity[place:]]

    assert drawdown
    assert drawdown.percent == pytest.approx(100 * max(falls), abs=1e-9)
    if drawdown.percent:
        assert drawdown.peak_at
        assert drawdown.trough_at
        top, bottom = (round(moment.timestamp()) - START for moment in (drawdown.peak_at, drawdown.trough_at))
        assert 1 - equity[bottom] / equity[top] == pytest.approx(drawdown.percent / 100)
        later = [place for place in range(bottom, len(equity)) if equity[place] >= equity[top]]
        recovered = datetime.fromtimestamp(START + later[0], UTC) if later else None
        assert drawdown.recovered_at == recovered


def as_date(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


@pytest.mark.parametrize("seed", range(100))
def test_the_money_weighted_return_is_that_of_pyxirr(seed: int) -> None:
    history = random_history(seed)
    joined = curve(*history.columns)
    days = [as_date(at) for at in [*history.at, history.at[-1]]]
    cash = [*(-flow for flow in history.flow), history.equity[-1] + history.flow[-1]]
    ours, theirs = (
        mwr(joined),
        xirr(days, [amount / 100 for amount in cash]),
    )  # pyxirr's tolerance is absolute

    assert theirs is not None
    assert ours.annual == pytest.approx(theirs, rel=1e-9)
    assert ours.period is not None
    assert (1 + ours.period) ** (365 / (len(history.at) - 1)) == pytest.approx(1 + theirs, rel=1e-9)


@pytest.mark.parametrize("seed", range(100))
def test_the_twr_is_the_product_of_the_daily_returns(seed: int) -> None:
    history = random_history(seed)
    joined = curve(*history.columns)

    assert returns.daily(joined).returns.tolist() == pytest.approx(history.returns, rel=1e-9, abs=1e-15)
    assert twr(joined) == pytest.approx(math.prod(1 + move for move in history.returns) - 1, rel=1e-9)


@given(
    st.floats(-0.9, 3),
    st.integers(1, 1500),
    st.lists(st.tuples(st.integers(0, 1499), st.integers(1, 10_000 * UNIT)), max_size=8),
)
def test_the_money_weighted_return_is_the_rate_that_made_the_equity(
    rate: float, days: int, deposits: list[tuple[int, int]]
) -> None:
    flows: dict[int, int] = {0: 1000 * UNIT}
    for day, paid in deposits:
        flows[day % days] = flows.get(day % days, 0) + paid
    rows, held, last = [], 0.0, 0
    for day in sorted({*flows, days}):
        held, last = held * (1 + rate) ** ((day - last) / 365), day
        rows.append((day * DAY, 1, round(held), flows.get(day, 0)))
        held += flows.get(day, 0)
    answer = mwr(curve_of(rows))

    assert answer.annual == pytest.approx(rate, rel=1e-4, abs=1e-4)  # amounts are rounded to base units


def test_a_rate_that_does_not_exist_is_none_with_the_reason() -> None:
    lost = mwr(curve([0, 10 * DAY], [1, 1], [0, 0], [100 * UNIT, 0]))
    quick = mwr(curve([0, 300], [1, 1], [0, 101 * UNIT], [100 * UNIT, 0]))

    assert lost == MoneyWeighted(None, None, "no rate solves these flows")
    assert quick.annual is None
    assert quick.period == pytest.approx(0.01)
    assert quick.reason == "too little time has passed for an annual rate"


def test_points_out_of_order_and_fractions_of_a_unit_are_refused() -> None:
    with pytest.raises(ValueError, match="order of time"):
        curve([1, 0], [1, 1], [0, 0], [0, 0])
    with pytest.raises(TypeError, match="whole USDC base units"):
        curve([0], [1], [0.5], [0])  # type: ignore[list-item]


spans = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)


@given(st.lists(spans, max_size=12), st.integers(1, 20), st.integers(0, 30))
def test_the_time_in_market_is_the_share_of_moments_with_a_position(
    intervals: list[list[int]], start: int, length: int
) -> None:
    end = start + length
    covered = {moment for opened, closed in intervals for moment in range(opened, closed)}
    answer = returns.time_in_market([(opened, closed) for opened, closed in intervals], start, end)

    if not length:
        assert answer is None
    else:
        assert answer == pytest.approx(len(covered & set(range(start, end))) / length)


def test_an_open_position_is_in_the_market_until_the_end() -> None:
    assert returns.time_in_market([(5, None)], 0, 10) == 0.5
    assert returns.time_in_market([], 0, 10) == 0


def test_the_fall_in_money_is_of_the_pnl_and_not_of_withdrawals() -> None:
    rows = [
        (START, 1, 100 * UNIT, 0),
        (START + 1, 1, 130 * UNIT, 0),
        (START + 2, 1, 110 * UNIT, -100 * UNIT),
        (START + 3, 1, 5 * UNIT, 50 * UNIT),
        (START + 4, 1, 90 * UNIT, 0),
    ]

    assert returns.max_drawdown_units(curve_of(rows)) == 25 * UNIT
    assert returns.max_drawdown_units(curve_of([])) == 0
