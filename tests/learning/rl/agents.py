"""Parameters of agents, without the library that fits them."""

from typing import Any

import numpy as np

from maxxit.learning import evaluate, worlds
from maxxit.learning.evaluate import Data
from maxxit.learning.forecasters import Har
from maxxit.learning.hours import Hours
from maxxit.learning.rl import network, training
from maxxit.learning.rl.parameters import coded

HORIZON = 6
Z = [-1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64]


def series(seed: int = 4, days: int = 40) -> list[Hours]:
    """Return the hours of a simulated market."""
    return worlds.world(seed, days)


def data(hours: list[Hours]) -> Data:
    """Return its decisions, one horizon apart."""
    return evaluate.gather(hours, HORIZON, step=HORIZON)


def weights(inputs: int = 1, seed: int = 10) -> Any:
    """Return random weights of a network."""
    random = np.random.default_rng(seed)
    return random.normal(0, 0.7, network.size(inputs + 2, training.HIDDEN)).astype(np.float32)


def parameters(**changed: Any) -> dict[str, Any]:
    """Return parameters of an agent that was not trained: a network of random weights."""
    values: dict[str, Any] = {
        "inputs": [["return_6h", 0.0, 1.0]],
        "hidden": list(training.HIDDEN),
        "activation": "tanh",
        "network": coded(weights()),
        "edge": 0.1,
        "coefficients": {"constant": -1.0} | dict.fromkeys(Har.TERMS, 0.1),
        "z": Z,
        "sensitivity": {"return_6h": 0.5, "position": -0.1},
        "actions": {"short": 0.5, "none": 0.25, "long": 0.25},
    }
    return values | changed
