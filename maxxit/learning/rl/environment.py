"""The gymnasium environment over a tape. Needs gymnasium: only what trains imports it."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from maxxit.learning.rl.tape import ACTIONS, FARTHEST, Float32s, Tape, Walk


class TapeEnvironment(gymnasium.Env):  # type: ignore[misc]
    """Walk over an episode of the tape, chosen at random by its length; `info` has the position that is held."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    render_mode = None

    def __init__(self, tape: Tape, unit: float = 1.0) -> None:
        self._walk = Walk(tape, unit)
        lengths = np.diff(tape.episodes, axis=1)[:, 0]
        self._shares = lengths / lengths.sum()
        high = states_limit(tape.known.shape[1])
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(len(ACTIONS))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32s, dict[str, Any]]:
        super().reset(seed=seed)
        episode = int(self.np_random.choice(len(self._shares), p=self._shares))
        return self._walk.begin(episode), {"position": 0}

    def step(self, action: Any) -> tuple[Float32s, float, bool, bool, dict[str, Any]]:
        state, reward, over = self._walk.step(ACTIONS[int(action)])
        return state, reward, over, False, {"position": self._walk.position}


def states_limit(inputs: int) -> Float32s:
    """Return the largest absolute value of each part of the state."""
    return np.array([FARTHEST, 1, 1, *[FARTHEST] * (inputs - 1)], dtype=np.float32)
