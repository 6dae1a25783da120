"""The stored parameters of `dqn` and `ppo`: numbers in JSON, the weights as base64. Checked each time they are read."""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from maxxit.core.errors import InvalidInput
from maxxit.learning.forecasters import Har
from maxxit.learning.rl import network
from maxxit.learning.rl.network import Activation, Layers
from maxxit.learning.rl.tape import Float32s
from maxxit.learning.statistics import LEVELS

POSITION_AND_ONE = 2
"""Of the state, beside the inputs."""


def _decoded(text: str, info: ValidationInfo) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if "inputs" in info.data and "hidden" in info.data:
        wanted = 4 * network.size(len(info.data["inputs"]) + POSITION_AND_ONE, info.data["hidden"])
        if len(raw) != wanted:
            raise ValueError(f"has {len(raw)} bytes, not {wanted}")
        if not np.isfinite(np.frombuffer(raw, "<f4")).all():
            raise ValueError("has a weight that is not a finite number")
    return text


def _names_the_terms(coefficients: dict[str, float]) -> dict[str, float]:
    if set(coefficients) != {"constant", *Har.TERMS}:
        raise ValueError(f"names other terms than constant, {', '.join(Har.TERMS)}")
    return coefficients


Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Parameters(BaseModel):
    """The parameters of a fitted agent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Annotated[list[tuple[str, Number, NotNegative]], Field(min_length=1)]
    """Name, mean and 1 / standard deviation of each feature that the state has; the first is ΔP/P."""
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=256)]], Field(max_length=4)]
    """Outputs of each hidden layer."""
    activation: Activation
    network: Annotated[str, AfterValidator(_decoded)]
    """Weights and biases, layer after layer: little-endian float32 in base64."""
    edge: NotNegative
    """Mean return of a position in the training rows, in standard deviations of the return over the horizon."""
    coefficients: Annotated[dict[str, Number], AfterValidator(_names_the_terms)]
    """Of the volatility, as in `har`."""
    z: Annotated[list[Number], Field(min_length=len(LEVELS), max_length=len(LEVELS))]
    """Quantiles of the standardised return."""
    sensitivity: dict[str, Number]
    """Part of the state -> by how much long is preferred to short, on average, where it is higher by one."""
    actions: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """Share of short, none and long in the training rows."""

    def layers(self) -> Layers:
        """Return the weights of the network."""
        return network.unpack(
            np.frombuffer(base64.b64decode(self.network), "<f4"),
            len(self.inputs) + POSITION_AND_ONE,
            self.hidden,
        )


def coded(weights: Float32s) -> str:
    """Return weights as they are stored."""
    return base64.b64encode(weights.astype("<f4").tobytes()).decode()


def checked(parameters: Mapping[str, Any]) -> Parameters:
    """Return stored parameters. Raises InvalidInput naming each field that is missing, unknown or damaged."""
    try:
        return Parameters.model_validate(dict(parameters))
    except ValidationError as error:
        problems = {
            ".".join(map(str, one["loc"])): f"{one['msg']}: train the model again" for one in error.errors()
        }
        raise InvalidInput(problems) from None
