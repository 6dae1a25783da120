"""A planted lookahead, a warm-up that is too short and posts without information are each found by their check."""

import random
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from maxxit.backtest import bias
from maxxit.backtest.market import moment_of
from maxxit.backtest.run import Backtest
from maxxit.core.errors import Misconfigured
from maxxit.market.bars import Bars
from maxxit.market.feeds.bars import Bar
from maxxit.market.indicators import snapshot
from maxxit.replay.tape import Tape
from tests.backtest.tapes import START, small_tape

HOUR = timedelta(hours=1)
COUNT, WARM_UP = 120, 40


@pytest.fixture(scope="module")
def bars() -> dict[str, list[Bar]]:
    """Twenty-five days of ETH before, and four after the start of the tape."""
    chance, price, rows = random.Random(5), 450.0, []
    at = datetime.fromtimestamp(START, UTC) - timedelta(days=25)
    for _ in range(29 * 288):
        after = price * (1 + chance.gauss(0, 0.002))
        high, low = max(price, after) * 1.0005, min(price, after) * 0.9995
        numbers = [Decimal(f"{n:.2f}") for n in (price, high, low, after, chance.uniform(1, 9))]
        rows.append(Bar(at, *numbers))
        at, price = at + timedelta(minutes=5), after
    return {"ETH": rows}


@pytest.fixture
def tape(bars: dict[str, list[Bar]]) -> Tape:
    """A tape whose indicators are those of the bars."""
    made = small_tape()
    series, figures = bias.Series("ETH", bars["ETH"]), []
    for place, one in enumerate(made.passes):
        one.markets = {"ETH": place}
        found = snapshot(bias.last_bars(series, moment_of(one.at), HOUR, COUNT), warm_up=WARM_UP)
        assert found is not None
        figures.append(list(astuple(found)))
    return replace(made, figures=figures)


def shifted(series: bias.Series, at: datetime, width: timedelta, count: int) -> Bars:
    """The mistake of a `shift(-1)`: the bar that is still forming is used as well."""
    return bias.last_bars(series, at + width, width, count)


def test_indicators_of_cut_data_are_those_of_whole_data(tape: Tape, bars: dict[str, Sequence[Bar]]) -> None:
    found = bias.lookahead(tape, bars)

    assert (found.looked_at, found.problems, found.passed) == (len(tape.passes), [], True)


def test_a_planted_shift_is_found(tape: Tape, bars: dict[str, Sequence[Bar]]) -> None:
    found = bias.lookahead(tape, bars, read=shifted)

    assert not found.passed
    assert len(found.problems) == found.looked_at
    assert found.problems[0].startswith("ETH at 2017-12-01 00:00: ")


def test_a_tape_of_other_candles_is_found(tape: Tape, bars: dict[str, Sequence[Bar]]) -> None:
    tape.figures[3][1] += 1

    found = bias.lookahead(tape, bars)

    assert len(found.problems) == 1
    assert "rsi is" in found.problems[0]


@pytest.mark.parametrize("check", [bias.lookahead, bias.recursive])
def test_a_token_without_candles_is_named(check: Callable[..., object], tape: Tape) -> None:
    with pytest.raises(
        Misconfigured, match="no candles of ETH, which the tape has: give the folder that was"
    ):
        check(tape, {"ETH": []})
    for one in tape.passes:
        one.markets = {}
    with pytest.raises(Misconfigured, match="no pass on the tape has indicators"):
        check(tape, {})


def test_a_warm_up_that_is_too_short_is_found(tape: Tape, bars: dict[str, Sequence[Bar]]) -> None:
    enough, drift = bias.recursive(tape, bars)
    short, _ = bias.recursive(tape, bars, count=45)

    assert enough.passed
    assert max(drift.values()) < bias.MOST_DRIFT
    assert any(problem.startswith("rsi drifts by") for problem in short.problems)


def test_posts_at_other_times_give_the_percentile_of_the_real_result() -> None:
    backtest = Backtest(small_tape(days=5))

    found = bias.placebo(backtest, 6)

    assert len(found.shifted) == 6
    assert found.shifted == sorted(found.shifted)
    assert 0 <= found.percentile <= 100
    assert found == bias.placebo(Backtest(small_tape(days=5)), 6)
    with pytest.raises(Misconfigured, match="the tape has 20 buckets: too few for 30"):
        bias.placebo(backtest, 30)
