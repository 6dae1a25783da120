"""The sequential test for drift: pure, bounded, found in time, rarely wrong."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from positions.twin import simulate
from positions.twin.drift import STEP, Rule, State, advance
from positions.twin.policy import MEASURES, policy

RULE = Rule(shift=20, noise=15, least_noise=8, values_per_false_alarm=100_000)
VALUES = st.lists(st.floats(-1e4, 1e4), max_size=60)


def after(values: list[float], rule: Rule = RULE, state: State | None = None) -> State:
    state = state or State()
    for value in values:
        state = advance(state, value, rule)
    return state


@given(VALUES)
def test_the_score_stays_between_zero_and_the_threshold(values: list[float]) -> None:
    state = State()
    for number, value in enumerate(values, start=1):
        state = advance(state, value, RULE)
        assert 0 <= state.score <= RULE.threshold == log(100_000)
        assert state.count == number
        assert state.run <= number
        assert (state.run == 0) == (state.score == 0)


@given(VALUES, st.floats(1.0, 100.0))
def test_a_value_that_is_better_never_raises_the_score(values: list[float], better: float) -> None:
    state = after(values)
    worse = advance(state, 25.0, RULE)
    assert advance(state, 25.0 - better, RULE).score <= worse.score


@given(st.lists(st.floats(-1e4, 1e4), min_size=STEP - 1, max_size=STEP - 1))
def test_fewer_than_five_values_never_alarm(values: list[float]) -> None:
    assert not after(values).alarm


@given(st.floats(0, 9.9))
def test_a_drift_below_half_the_shift_is_no_alarm(drift: float) -> None:
    assert not after([drift] * 500).alarm


def test_the_alarm_stays_until_the_score_is_zero_again() -> None:
    state = after([20.0] * 30)
    assert state.alarm
    assert state.run_sum / state.run == pytest.approx(20)
    score = state.score
    while score > 0:
        assert state.alarm
        state = advance(state, 0.0, RULE)
        assert state.score < score
        score = state.score
    assert not state.alarm
    assert (state.run, state.run_sum) == (0, 0.0)


def test_the_noise_is_measured_and_a_lasting_shift_does_not_count_as_noise() -> None:
    jumps = [30.0 if number % 2 else -30.0 for number in range(400)]
    assert after(jumps).noise == pytest.approx(60 * 0.886, rel=0.05)
    assert after([0.0] * 200 + [50.0] * 10).noise == pytest.approx(0.0, abs=1.5)


def test_one_wild_value_moves_the_noise_little() -> None:
    calm = after([5.0 if number % 2 else -5.0 for number in range(200)])
    assert calm.noise is not None
    wild = advance(calm, 10_000.0, RULE)
    assert wild.noise is not None
    assert wild.noise < calm.noise * 1.1


@pytest.mark.parametrize("form", simulate.FORMS, ids=lambda form: form[0])
def test_20_bp_are_found_within_30_trades_and_false_alarms_are_counted(
    form: tuple[str, simulate.Noise, float],
) -> None:
    name, noise, scale = form
    got = simulate.measure(name, noise, scale, policy().rule("price"), runs=40, seed=1)
    assert got.calm_trades == 40_000
    assert got.found >= 38, got
    assert got.found_later >= 38, got
    assert got.false_alarms <= 2, got


def test_a_test_that_never_alarms_or_always_does_would_be_noticed() -> None:
    deaf = Rule(shift=400, noise=15, least_noise=8, values_per_false_alarm=100_000)
    jumpy = Rule(shift=20, noise=15, least_noise=8, values_per_false_alarm=3)
    name, noise, scale = simulate.FORMS[1]
    assert simulate.alarms(noise(simulate.np.random.default_rng(1), 60) * scale + 20, deaf) == []
    assert not simulate.measure(name, noise, scale, jumpy, runs=2, seed=1).ok


def test_every_measure_has_a_rule() -> None:
    assert [policy().rule(measure).shift for measure in MEASURES] == [20, 10, 60, 40, 0.2]
