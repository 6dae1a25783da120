"""What an agent walks over: decisions one horizon apart, each with its state and return. Pure.

State [ΔP/P, position, 1] and further features of the table where the configuration names any; actions −1, 0 and +1: the
position until the next decision; reward (P' − P) / P × position, less the costs of the change of position.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxxit.learning.features import RETURN_SPANS
from maxxit.learning.forecasters import Rows
from maxxit.learning.gates import COST
from maxxit.learning.hours import Floats

Float32s = NDArray[np.float32]
ACTIONS = (-1, 0, 1)
"""Positions: short, none, long; a network has one output for each, in this order."""
COST_OF_CHANGE = COST / 2
"""Fees and slippage for a change of position by one, a fraction of the traded amount: opening or closing."""
FARTHEST = 4.0
"""Standard deviations at which an input is clipped."""
Input = tuple[str, float, float]
"""Name, mean, and 1 / standard deviation (0 for an input that never changed in training)."""


def change_of(horizon: int) -> str:
    """Return the feature that is ΔP/P: the return over the longest span of the table within the horizon.

    It is in units of the week's volatility, so that tokens are alike.
    """
    return f"return_{max(span for span in RETURN_SPANS if span <= horizon)}h"


def fitted_inputs(rows: Rows, names: tuple[str, ...]) -> list[Input]:
    """Return each input with the mean and the scale of the training rows."""
    made = []
    for name in names:
        column = rows.column(name)
        deviation = float(column.std())
        made.append((name, float(column.mean()), 1 / deviation if deviation > 1e-12 else 0.0))
    return made


def standard(values: Floats, inputs: list[Input]) -> Floats:
    """Return inputs standardised and clipped; the last axis of `values` has one value for each of `inputs`."""
    mean, scale = (np.array([one[place] for one in inputs]) for place in (1, 2))
    made: Floats = np.clip((values - mean) * scale, -FARTHEST, FARTHEST)
    return made


def states(known: Floats, positions: Any) -> Float32s:
    """Return [ΔP/P, position, 1, further inputs] of each decision, shape (n, number of inputs + 2)."""
    count = len(known)
    columns = [known[:, :1], np.reshape(positions, (count, 1)), np.ones((count, 1)), known[:, 1:]]
    return np.concatenate(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Tape:
    """Decisions of all symbols; an episode is one symbol without a gap."""

    known: Floats
    """Shape (n, number of inputs): standardised, as known when the decision is made."""
    returns: Floats
    """P'/P − 1 from each decision to the next, a fraction."""
    episodes: NDArray[np.int64]
    """Shape (number of episodes, 2): first decision, and the one after the last."""

    def __len__(self) -> int:
        return len(self.returns)


def record(rows: Rows, inputs: list[Input]) -> Tape:
    """Return the tape of rows that are one horizon apart, as `evaluate.gather` with `step=horizon` makes them.

    Before the first row of a symbol lie the hours of its warm-up, so that no episode reaches another symbol.
    """
    order = np.argsort(rows.places, kind="stable")
    places = rows.places[order]
    known = standard(np.column_stack([rows.column(name) for name, *_ in inputs]), inputs)[order]
    begins = np.flatnonzero(np.append(True, np.diff(places) != rows.horizon))
    episodes = np.column_stack([begins, np.append(begins[1:], len(places))])
    return Tape(known, np.expm1(rows.returns[order]), episodes)


class Walk:
    """One walk at a time over an episode of a tape."""

    def __init__(self, tape: Tape, unit: float = 1.0) -> None:
        """Walk over `tape`. A reward of 1 is a gain of the fraction `unit` of the stake."""
        self.tape, self._unit = tape, unit
        self._at = self._stop = self.position = 0

    def begin(self, episode: int) -> Float32s:
        """Return the state of the first decision; no position is held."""
        self._at, self._stop = (int(one) for one in self.tape.episodes[episode])
        self.position = 0
        return self._state()

    def step(self, action: int) -> tuple[Float32s, float, bool]:
        """Take a position until the next decision; return the next state, the reward, and whether the episode is over.

        At its end the position is closed, at the costs of that; the state is then the last one without a position.
        """
        held, self.position = self.position, action
        earned = float(self.tape.returns[self._at]) * action - COST_OF_CHANGE * abs(action - held)
        over = self._at + 1 == self._stop
        if over:
            earned -= COST_OF_CHANGE * abs(action)
            self.position = 0
        else:
            self._at += 1
        return self._state(), earned / self._unit, over

    def _state(self) -> Float32s:
        row: Float32s = states(self.tape.known[self._at : self._at + 1], self.position)[0]
        return row
