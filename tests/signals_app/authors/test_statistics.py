"""Coverage of intervals, correction for many authors, and the impact factor."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from signals_app.authors import impact
from signals_app.authors.backtest import BAR_SECONDS, Series, Terms
from signals_app.authors.measure import HEADLINE, Call, Measure, measure, pooled
from signals_app.authors.statistics import benjamini_hochberg, binomial_tail, estimate

BEGIN = datetime(2017, 12, 1, tzinfo=UTC)
DAYS = 30
FAIR = Measure(
    Terms(take_profit_pct=10, stop_loss_pct=5, cost_pct=0), 20, seed=1, horizons=(HEADLINE,), draws=400
)


def walk(rng: np.random.Generator, days: int = DAYS) -> Series:
    """A price that goes nowhere on average, about 4 % a day up and down."""
    steps = rng.normal(0, 0.04 / 288**0.5, 288 * days)
    close = 100 * np.exp(np.cumsum(steps - steps.var() / 2))
    before = np.concatenate([[100.0], close[:-1]])
    opened = int(BEGIN.timestamp()) + BAR_SECONDS * np.arange(len(close), dtype=np.int64)
    return Series(opened, before, np.maximum(before, close), np.minimum(before, close), close)


def guesses(rng: np.random.Generator, author: str, count: int = 40) -> list[Call]:
    """Calls at any time, on any side."""
    minutes = rng.integers(0, (DAYS - 2) * 1440, count)
    sides = rng.integers(0, 2, count)
    return [
        Call(
            author,
            str(number),
            "BTC",
            "long" if side else "short",
            BEGIN + timedelta(minutes=int(minute)),
        )
        for number, (minute, side) in enumerate(zip(minutes, sides, strict=True))
    ]


def test_a_random_authors_interval_covers_zero_about_95_times_in_a_hundred() -> None:
    covered = []
    for number in range(240):
        rng = np.random.default_rng([7, number])
        found = measure(guesses(rng, f"monkey{number}"), {"BTC": walk(rng)}, FAIR)
        mean = found[0].horizons[HEADLINE].mean
        assert mean.low is not None
        assert mean.high is not None
        covered.append(mean.low <= 0 <= mean.high)
    share = sum(covered) / len(covered)

    print(f"covers zero: {share:.1%} of {len(covered)}")
    assert 0.91 <= share <= 0.985  # 95 % give or take 2.7 standard errors
    page = (Path(__file__).parents[3] / "docs/authors.md").read_text()
    assert f"{share * 100:.1f} % of {len(covered)} authors" in page


def test_an_author_who_knows_is_found_among_many_who_guess() -> None:
    rng = np.random.default_rng(3)
    bars = walk(rng)
    calls = [call for number in range(20) for call in guesses(rng, f"monkey{number:02}", 40)]
    for day in range(DAYS - 2):
        place = bars.entry((BEGIN + timedelta(days=day)).timestamp()) or 0
        up = bars.close[place + 287] > bars.open[place]
        calls.append(Call("oracle", str(day), "BTC", "long" if up else "short", BEGIN + timedelta(days=day)))
    found = {one.author: one for one in measure(calls, {"BTC": bars}, replace(FAIR, draws=2000))}

    assert (found["oracle"].q_value or 1) < 0.05
    assert sum((one.q_value or 1) < 0.05 for one in found.values()) <= 2
    assert found["oracle"].horizons[HEADLINE].hit_rate.mean > 0.9


def test_the_same_inputs_give_the_same_digits_in_any_order() -> None:
    rng = np.random.default_rng(5)
    bars, calls = {"BTC": walk(rng)}, guesses(rng, "one") + guesses(rng, "two")

    assert measure(calls, bars, FAIR) == measure(reversed(calls), bars, FAIR)
    assert pooled(calls, bars, FAIR) == pooled(reversed(calls), bars, FAIR)


def test_every_token_of_a_call_counts_with_its_own_side_and_a_repeat_does_not() -> None:
    rng = np.random.default_rng(6)
    bars = {"BTC": walk(rng), "ETH": walk(rng)}
    at = BEGIN + timedelta(hours=1)
    calls = [
        Call("one", "1", "BTC", "long", at),
        Call("one", "1", "ETH", "short", at),
        Call("one", "2", "BTC", "long", BEGIN + timedelta(hours=5, minutes=59)),  # the same call again
        Call("one", "3", "BTC", "long", BEGIN + timedelta(hours=12)),
        Call("one", "4", "XRP", "long", at),  # no bars
    ]
    found = measure(calls, bars, FAIR)[0]

    assert (found.calls, found.repeats, found.untraded) == (4, 1, 1)
    assert found.horizons[HEADLINE].calls == 3


def test_few_days_give_no_interval_whatever_the_number_of_calls() -> None:
    values = [1.0, 2.0] * 50
    found = estimate(values, [number % 7 for number in range(100)], seed=[1])

    assert (found.mean, found.low, found.p_value, found.clusters) == (1.5, None, None, 7)
    assert estimate([1.0] * 100, [number % 10 for number in range(100)], seed=[1]).low is None, "no spread"


def test_calls_of_one_day_are_one_throw() -> None:
    """Ten copies of each day's result make nobody surer."""
    rng = np.random.default_rng(8)
    once = rng.normal(0, 1, 20)
    few = estimate(list(once), list(range(20)), seed=[1])
    many = estimate(list(np.repeat(once, 10)), list(np.repeat(range(20), 10)), seed=[1])

    assert many.low == pytest.approx(few.low)
    assert many.p_value == few.p_value


def test_the_correction_over_authors() -> None:
    assert benjamini_hochberg([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.04),
        pytest.approx(0.04),
    ]
    assert benjamini_hochberg([]) == []


def test_the_tail_of_chance() -> None:
    assert binomial_tail(0, 5, 0.3) == pytest.approx(1)
    assert binomial_tail(5, 5, 0.5) == pytest.approx(1 / 32)
    assert binomial_tail(6, 5, 0.5) == 0


@pytest.mark.parametrize(
    ("exit_by", "gross", "favourable", "adverse", "points"),
    [
        ("target", 10, 10, 1, 1.3),
        ("target", 10, 15, 0, 1.5),
        ("stop", -5, 0, 5, -1.3),
        ("stop", -9, 0, 9, -1.5),
        ("time", 6, 8, 2, 0.5 + 0.3 - 0.1),
        ("time", 5.9, 7, 0, 0.1),
        ("time", 2.9, 3.9, 0, 0),
        ("time", -2.9, 0, 3, -0.1),
        ("time", -3, 0, 4, -0.5 - 0.3),
        ("time", -4.9, 4, 4.9, -0.5 + 0.1 - 0.3),
    ],
)
def test_the_points_of_a_call(
    exit_by: str, gross: float, favourable: float, adverse: float, points: float
) -> None:
    assert impact.score(exit_by, gross, favourable, adverse) == pytest.approx(points)


def test_the_factor_leaves_a_half_slowly_and_stays_within_its_bounds() -> None:
    assert impact.factor([], 20) == 0.5
    assert impact.factor([1.5], 20) == pytest.approx(0.5 + 1.5 / 21 / 3)
    assert impact.factor([1.5] * 20, 20) == pytest.approx(0.75)
    assert 0.99 < impact.factor([1.5] * 10_000, 20) < 1
    assert 0 < impact.factor([-1.5] * 10_000, 20) < 0.01
