"""The environment: reward and costs, episodes, and that it shows nothing of the future."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.learning import evaluate
from maxxit.learning.gates import COST
from maxxit.learning.rl import tape
from maxxit.learning.rl.tape import Tape, Walk
from tests.learning.rl import agents
from tests.learning.rl.agents import HORIZON

INPUTS = [("return_6h", 0.0, 1.0), ("sentiment_1h", 0.0, 1.0)]
STEPS = st.lists(st.tuples(st.floats(-0.5, 0.5), st.sampled_from(tape.ACTIONS)), min_size=1, max_size=12)


def one_episode(returns: Sequence[float]) -> Tape:
    known = np.arange(len(returns), dtype=float)[:, None] / 10
    return Tape(known, np.array(returns), np.array([[0, len(returns)]]))


@given(STEPS, st.sampled_from([1.0, 0.02]))
def test_a_reward_is_the_change_of_the_price_times_the_position_less_the_costs(
    steps: list[tuple[float, int]], unit: float
) -> None:
    returns, actions = zip(*steps, strict=True)
    walk, rewards, states = Walk(one_episode(returns), unit), [], []
    states.append(walk.begin(0))
    for place, action in enumerate(actions):
        state, reward, over = walk.step(action)
        states.append(state)
        rewards.append(reward * unit)
        assert over == (place == len(actions) - 1)
    before = [0, *actions[:-1]]
    for place, (earned, held, action) in enumerate(zip(returns, before, actions, strict=True)):
        closing = abs(action) if place == len(actions) - 1 else 0
        costs = COST / 2 * (abs(action - held) + closing)
        assert rewards[place] == pytest.approx(earned * action - costs, abs=1e-12)
        assert states[place].tolist() == pytest.approx([place / 10, held, 1.0])
    turnover = np.abs(np.diff([0, *actions, 0])).sum()
    assert sum(rewards) == pytest.approx(np.dot(returns, actions) - COST / 2 * turnover, abs=1e-9)


def test_a_trade_from_opening_to_closing_costs_what_the_gate_charges() -> None:
    walk = Walk(one_episode([0.01]))
    walk.begin(0)
    _, reward, over = walk.step(1)
    assert over
    assert reward == pytest.approx(0.01 - COST)


def test_an_episode_is_one_symbol_without_a_gap_and_every_row_is_in_one() -> None:
    series = agents.series()
    series[1].close[500:540] = np.nan  # longer than any fill
    data = agents.data(series)
    made = tape.record(data.rows, INPUTS)
    assert made.episodes[0, 0] == 0
    assert made.episodes[-1, 1] == len(made) == len(data.rows)
    assert np.array_equal(made.episodes[1:, 0], made.episodes[:-1, 1])
    order = np.argsort(data.rows.places, kind="stable")
    symbols, ends = data.symbols[order], data.ends[order]
    for begin, stop in made.episodes:
        assert len(set(symbols[begin:stop])) == 1
        assert set(np.diff(ends[begin:stop])) <= {HORIZON}
    assert len(made.episodes) == len(series) + 1


def test_what_happens_later_changes_nothing_before() -> None:
    series = agents.series(days=25)
    cut = 400
    changed = [
        replace(one, close=one.close.copy(), sides=one.sides.copy(), variance=one.variance.copy())
        for one in series
    ]
    for one in changed:
        one.close[cut:] *= 1.5
        one.sides[cut:] += 1
        one.variance[cut:] *= 4

    def walked(hours: list[object]) -> tuple[list[list[float]], list[float], np.ndarray]:
        made = evaluate.gather(hours, HORIZON, step=HORIZON)  # type: ignore[arg-type]
        walk, random = Walk(tape.record(made.rows, INPUTS)), np.random.default_rng(1)
        states, rewards = [], []
        for episode in range(len(series)):
            states.append(walk.begin(episode).tolist())
            over = False
            while not over:
                state, reward, over = walk.step(int(random.integers(-1, 2)))
                states.append(state.tolist())
                rewards.append(reward)
        return states, rewards, made.ends[np.argsort(made.rows.places, kind="stable")]

    known, earned, ends = walked(list(series))
    other, others, _ = walked(list(changed))
    decided = np.concatenate([np.append(part, part[-1]) for part in np.split(ends, len(series))])
    last = series[0].first + cut  # the end of the last hour that is equal
    before = decided <= last
    assert before.sum() > 100
    assert [state for state, early in zip(known, before, strict=True) if early] == [
        state for state, early in zip(other, before, strict=True) if early
    ]
    over_before = ends + HORIZON <= last
    final = np.append(np.diff(ends) < 0, True)
    assert np.array(earned)[over_before & ~final].tolist() == np.array(others)[over_before & ~final].tolist()
    assert known != other


def test_the_change_of_the_price_is_the_longest_return_within_the_horizon() -> None:
    assert [tape.change_of(hours) for hours in (2, 6, 8, 24, 400)] == [
        "return_2h", "return_6h", "return_6h", "return_24h", "return_168h",
    ]  # fmt: skip


def test_an_input_that_never_changed_counts_nothing() -> None:
    rows = agents.data(agents.series()).rows
    rows.features[:, rows.names.index("sentiment_1h")] = 0.3
    (_, mean, scale), (_, still, nothing) = tape.fitted_inputs(rows, ("return_6h", "sentiment_1h"))
    assert scale > 0
    assert (still, nothing) == (pytest.approx(0.3), 0.0)
    made = tape.standard(np.array([[mean + 100 / scale, 7.0]]), [("a", mean, scale), ("b", still, nothing)])
    assert made.tolist() == [[tape.FARTHEST, 0.0]]
