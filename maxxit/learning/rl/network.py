"""The networks of `dqn` and `ppo` in numpy: layers of weights and biases with one function between them. Pure."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np

from maxxit.learning.rl.tape import ACTIONS, Float32s

Activation = Literal["relu", "tanh"]
FUNCTIONS: dict[str, Callable[[Float32s], Float32s]] = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "tanh": np.tanh,
}
Layers = list[tuple[Float32s, Float32s]]


def shapes(inputs: int, hidden: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the shapes of each layer's weights (outputs, inputs) and biases, as torch orders them."""
    sizes = [inputs, *hidden, len(ACTIONS)]
    return [shape for before, after in pairwise(sizes) for shape in ((after, before), (after,))]


def size(inputs: int, hidden: Sequence[int]) -> int:
    """Return how many numbers a network has."""
    return sum(prod(shape) for shape in shapes(inputs, hidden))


def unpack(flat: Float32s, inputs: int, hidden: Sequence[int]) -> Layers:
    """Return (weights, biases) of each layer as views of one vector."""
    parts, at = [], 0
    for shape in shapes(inputs, hidden):
        parts.append(flat[at : at + prod(shape)].reshape(shape))
        at += prod(shape)
    return list(zip(parts[::2], parts[1::2], strict=True))


def forward(layers: Layers, activation: Activation, states: Float32s) -> Float32s:
    """Return the value of each of `ACTIONS` in each state, shape (n, 3): Q-values of `dqn`, logits of `ppo`."""
    values = states
    for number, (weights, biases) in enumerate(layers):
        values = (FUNCTIONS[activation](values) if number else values) @ weights.T + biases
    return values
