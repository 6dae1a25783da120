"""The environment of the agents: gymnasium's own checker agrees with it, and it goes on as the plain walk does."""

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from maxxit.learning import evaluate, worlds
from maxxit.learning.rl import tape
from maxxit.learning.rl.environment import TapeEnvironment


@pytest.fixture(scope="module")
def recorded() -> tape.Tape:
    rows = evaluate.gather(worlds.world(3, 40), 6, step=6).rows
    return tape.record(rows, tape.fitted_inputs(rows, ("return_6h", "sentiment_1h")))


def test_gymnasium_accepts_it(recorded: tape.Tape) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(TapeEnvironment(recorded, 0.02), skip_render_check=True)


def test_an_episode_is_a_walk(recorded: tape.Tape) -> None:
    environment, random = TapeEnvironment(recorded), np.random.default_rng(1)
    state, _ = environment.reset(seed=5)
    walk, found = tape.Walk(recorded), []
    for episode in range(len(recorded.episodes)):
        if np.array_equal(walk.begin(episode), state):
            found.append(episode)
    (episode,) = found
    walk.begin(episode)
    over = False
    while not over:
        action = int(random.integers(3))
        state, reward, over, truncated, info = environment.step(action)
        expected = walk.step(tape.ACTIONS[action])
        assert (state.tolist(), reward, over) == (expected[0].tolist(), *expected[1:])
        assert state in environment.observation_space
        assert not truncated
        assert info == {"position": walk.position}


def test_the_same_seed_gives_the_same_episode(recorded: tape.Tape) -> None:
    starts = [TapeEnvironment(recorded).reset(seed=seed)[0].tolist() for seed in (*range(8), 3)]
    assert starts[3] == starts[8]
    assert len(set(map(tuple, starts))) > 1
