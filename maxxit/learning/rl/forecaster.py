"""The forecasters `dqn` and `ppo`: the side is the action of a network, the volatility that of `har`.

They exist for parity with the product's sources. They pass the gate of every direction model or serve nothing, and what
they forecast is subject to every check of risk; none is ever default.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import structlog

from maxxit.core.errors import Misconfigured
from maxxit.learning import statistics
from maxxit.learning.forecasters import Forecasts, Har, Rows, scaled
from maxxit.learning.hours import Floats
from maxxit.learning.policy import Rl, policy
from maxxit.learning.rl import checkpoints, network, training
from maxxit.learning.rl.acting import Acted, act, decisions
from maxxit.learning.rl.parameters import Parameters, checked, coded
from maxxit.learning.rl.tape import FARTHEST, change_of, fitted_inputs, record, states

log = structlog.get_logger(__name__)


class Agent:
    """An agent: what differs between the kinds is how the network is trained."""

    name, purpose = "", "direction"

    def __init__(self, rules: Rl | None = None) -> None:
        self._rules = rules

    @property
    def rules(self) -> Rl:
        """Settings of the training, by default those of config/models.yaml."""
        return self._rules or policy().rl

    def fit(self, rows: Rows) -> dict[str, Any]:
        """Return the network, the volatility of `har`, and the mean return of a position.

        A fit that a training that was killed had finished is taken from its checkpoint.

        Raises Misconfigured where the library is not installed or the configuration names an unknown feature.
        """
        names = (change_of(rows.horizon), *self.rules.features)
        if unknown := set(names) - set(rows.names):
            raise Misconfigured(
                f"rl.features of config/models.yaml names {', '.join(sorted(unknown))}: the features are "
                f"{', '.join(rows.names)}"
            )
        checkpoint = checkpoints.key(self.name, self.rules, rows)
        if (known := checkpoints.read(checkpoint)) is not None:
            return known
        made = self._fit(rows, names)
        checkpoints.write(checkpoint, made)
        return made

    def _fit(self, rows: Rows, names: tuple[str, ...]) -> dict[str, Any]:
        inputs = fitted_inputs(rows, names)
        weights = training.train(self.name, record(rows, inputs), self.rules)
        made: dict[str, Any] = {
            "inputs": inputs,
            "hidden": list(training.HIDDEN),
            "activation": training.ACTIVATIONS[self.name],
            "network": coded(weights),
            "edge": 0.0,
            "coefficients": Har().fit(rows)["coefficients"],
            "z": [0.0] * len(statistics.LEVELS),
            "sensitivity": {},
            "actions": {},
        }
        known = checked(made)
        sigma, sides = _sigma(known, rows), act(made, rows).sides
        gains = (sides * np.clip(rows.returns / sigma, -FARTHEST, FARTHEST))[sides != 0]
        edge = max(0.0, float(gains.mean())) if len(gains) else 0.0
        counted = Counter(sides.tolist())
        return made | {
            "edge": edge,
            "z": list(statistics.empirical(rows.returns / sigma - edge * sides, symmetric=True)),
            "sensitivity": sensitivity(known, rows),
            "actions": {
                name: counted[side] / len(rows) for name, side in (("short", -1), ("none", 0), ("long", 1))
            },
        }

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        """Return the volatility of `har`, and a mean of the fitted edge on the agent's side; 0 where it holds.

        Raises InvalidInput naming the field where the parameters are damaged; nothing is forecast from those.
        """
        known = checked(parameters)
        sigma = _sigma(known, rows)
        acted = act(parameters, rows)
        self._tell(acted)
        return scaled(sigma, acted.sides * known.edge * sigma, known.z)

    def _tell(self, acted: Acted) -> None:
        reasons = Counter(str(why) for why in acted.held if why is not None)
        if reasons:
            log.warning("agent_held", kind=self.name, rows=len(acted.held), reasons=dict(reasons))


class Dqn(Agent):
    """Deep Q-learning with a replay buffer and a target network (Mnih and others, 2015)."""

    name = "dqn"


class Ppo(Agent):
    """Proximal policy optimisation (Schulman and others, 2017)."""

    name = "ppo"


def _sigma(known: Parameters, rows: Rows) -> Floats:
    return Har().forecast({"coefficients": known.coefficients, "z": known.z}, rows).sigma


def sensitivity(known: Parameters, rows: Rows) -> dict[str, float]:
    """Return by how much long is preferred to short, on average, where a part of the state is higher by one.

    One is a standard deviation of an input, and a long position instead of none.
    """
    seen = np.nan_to_num(decisions(known, rows)[:, -1])
    base = states(seen, np.zeros(len(seen)))

    def preferred(state: Any) -> Floats:
        values = network.forward(known.layers(), known.activation, state).astype(np.float64)
        difference: Floats = values[:, 2] - values[:, 0]
        return difference

    change, *further = (name for name, *_ in known.inputs)
    found = {}
    for place, name in ((0, change), (1, "position"), *enumerate(further, start=3)):
        higher = base.copy()
        higher[:, place] += 1
        found[name] = float((preferred(higher) - preferred(base)).mean())
    return found
