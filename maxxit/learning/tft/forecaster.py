"""A temporal fusion transformer of log realised volatility, times symmetric quantiles of the standardised return.

JAX (`pip install -r requirements-tft.txt`) fits the network; its weights are stored as numbers, and numpy forecasts
from these, so that no worker that forecasts needs JAX.
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from maxxit.core.errors import InvalidInput, Misconfigured
from maxxit.learning import statistics
from maxxit.learning.forecasters import Forecasts, Rows, scaled
from maxxit.learning.hours import Floats
from maxxit.learning.statistics import LEVELS
from maxxit.learning.tft import network
from maxxit.learning.tft.network import CALENDAR, OBSERVED, STATIC, Float32s

LEVEL = "log_volatility_168h"
"""What the target and every other volatility among the inputs is relative to, so that tokens are alike."""
RELATIVE = tuple(
    name
    for name in (*STATIC, *OBSERVED)
    if name.startswith(("log_volatility", "log_range")) and name != LEVEL
)
STANDARDISED = tuple(dict.fromkeys(name for name in (*STATIC, *OBSERVED) if name not in CALENDAR))
FARTHEST = 4.0
"""Standard deviations at which an input is clipped."""
HOURS_OF = {"day": 24, "week": 168}
EPOCHS, BATCH = 3, 64
LEAST_STEPS, MOST_STEPS = 200, 600
"""Batches of a fit: it is bounded whatever the history, and few rows are seen more than `EPOCHS` times."""
LEARNING_RATE = 0.005
"""Of the first step; it falls to 0 along a cosine."""
LONGEST_GRADIENT = 1.0
CALIBRATION_ROWS = 4096
"""Training rows, evenly spaced, that the quantiles of the standardised return are taken from, at most."""
CHUNK = 256
"""Rows that are forecast at once, so that memory does not grow with their number."""
SEED = 7
SHARES = np.diff([0.0, *(np.convolve(LEVELS, [0.5, 0.5], "valid")), 1.0])
"""Of the distribution, which each quantile stands for."""


def _decoded(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None
    if len(raw) != 4 * network.SIZE:
        raise ValueError(f"has {len(raw)} bytes, not {4 * network.SIZE}")
    if not np.isfinite(np.frombuffer(raw, "<f4")).all():
        raise ValueError("has a weight that is not a finite number")
    return text


def _names_the_inputs(inputs: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    if set(inputs) != set(STANDARDISED):
        raise ValueError(f"names other inputs than {', '.join(STANDARDISED)}")
    return inputs


Number = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Parameters(BaseModel):
    """The parameters of a fitted network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Annotated[dict[str, tuple[Number, Scale]], AfterValidator(_names_the_inputs)]
    """Name -> mean, and 1 / standard deviation; 0 for an input that never changed in training."""
    target: tuple[Number, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Mean and standard deviation of log realised volatility less `LEVEL`."""
    network: Annotated[str, AfterValidator(_decoded)]
    """The weights in the order of `network.SHAPES`: little-endian float32 in base64."""
    selection: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """How much each input of the window counts, on average of the training rows."""
    z: Annotated[list[Number], Field(min_length=len(LEVELS), max_length=len(LEVELS))]
    """Quantiles of the standardised return."""

    def weights(self) -> dict[str, Float32s]:
        """Return the weights by name."""
        return network.unpack(np.frombuffer(base64.b64decode(self.network), "<f4"))


def checked(parameters: Mapping[str, Any]) -> Parameters:
    """Return stored parameters. Raises InvalidInput naming each field that is missing, unknown or damaged."""
    try:
        return Parameters.model_validate(dict(parameters))
    except ValidationError as error:
        problems = {
            ".".join(map(str, one["loc"])): f"{one['msg']}: train the model again" for one in error.errors()
        }
        raise InvalidInput(problems) from None


class Transformer:
    """Quantiles of log realised volatility from the hours of the last day; the forecast is their mean variance."""

    name, purpose = "tft", "volatility"

    def fit(self, rows: Rows) -> dict[str, Any]:
        """Return the network and the quantiles. Raises Misconfigured where JAX is not installed."""
        gradient = _gradient()
        random = np.random.default_rng(SEED)
        inputs = {name: _mean_and_scale(_relative(rows, name)) for name in STANDARDISED}
        log_volatility = np.log(rows.volatility) - rows.column(LEVEL)
        target = float(log_volatility.mean()), max(float(log_volatility.std()), 1e-6)
        wanted = ((log_volatility - target[0]) / target[1]).astype(np.float32)
        weights = network.initial(random)
        network.unpack(weights)["quantiles_bias"][...] = np.quantile(wanted, LEVELS)
        for batch, step in _adam(weights, len(rows), random):
            step(gradient(weights, *_tensors(rows.where(batch), inputs), wanted[batch]))
        sample = rows.where(np.linspace(0, len(rows) - 1, min(len(rows), CALIBRATION_ROWS)).astype(int))
        by_name = network.unpack(weights)
        sigma, chosen = _volatility(by_name, inputs, target, sample)
        return {
            "inputs": inputs,
            "target": target,
            "network": base64.b64encode(weights.astype("<f4").tobytes()).decode(),
            "selection": {name: float(one) for name, one in zip(OBSERVED, chosen, strict=True)},
            "z": list(statistics.empirical(sample.returns / sigma, symmetric=True)),
        }

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        known = checked(parameters)
        sigma, _ = _volatility(known.weights(), known.inputs, known.target, rows)
        return scaled(sigma, np.zeros(len(rows)), known.z)


def _adam(
    weights: Float32s, rows: int, random: np.random.Generator
) -> Iterator[tuple[Any, Callable[[Float32s], None]]]:
    """Yield the rows of each batch with the step that moves `weights` against their gradient (Kingma and Ba, 2015)."""
    steps = int(np.clip(EPOCHS * rows // BATCH, LEAST_STEPS, MOST_STEPS))
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for number in range(1, steps + 1):

        def step(gradient: Float32s, number: int = number) -> None:
            slope = gradient * min(1.0, LONGEST_GRADIENT / max(float(np.linalg.norm(gradient)), 1e-12))
            mean[...] = 0.9 * mean + 0.1 * slope
            square[...] = 0.999 * square + 0.001 * slope**2
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * (number - 1) / steps))
            away = (mean / (1 - 0.9**number)) / (np.sqrt(square / (1 - 0.999**number)) + 1e-8)
            weights[...] = weights - np.float32(rate) * away

        yield random.integers(0, rows, BATCH), step


@cache
def _gradient() -> Callable[..., Float32s]:
    """Return the compiled gradient of the mean pinball loss with respect to the weights."""
    jax = _library()
    jax.config.update("jax_platforms", "cpu")  # the same numbers everywhere, whatever accelerator is there
    xp = jax.numpy
    levels = np.array(LEVELS, dtype=np.float32)

    def loss(weights: Any, static: Any, past: Any, future: Any, wanted: Any) -> Any:
        made, _ = network.forward(xp, jax.lax.scan, weights, static, past, future)
        off = wanted[:, None] - made
        return xp.maximum(levels * off, (levels - 1) * off).mean()

    compiled = jax.jit(jax.grad(loss))

    def gradient(weights: Float32s, *batch: Float32s) -> Float32s:
        return network.pack(compiled(network.unpack(weights), *batch))

    return gradient


def _volatility(
    weights: Mapping[str, Float32s],
    inputs: Mapping[str, tuple[float, float]],
    target: tuple[float, float],
    rows: Rows,
) -> tuple[Floats, Floats]:
    """Return the standard deviation of the return over the horizon, and how much each input counts on average.

    The variance is the mean of the variances at the forecast quantiles, each with its share of the distribution.
    """
    variances, selections = [], []
    for begin in range(0, len(rows), CHUNK):
        some = rows.where(slice(begin, begin + CHUNK))
        made, chosen = network.forward(np, network.loop, weights, *_tensors(some, inputs))
        log_volatility = made.astype(np.float64) * target[1] + target[0] + some.column(LEVEL)[:, None]
        variances.append(np.exp(2 * log_volatility) @ SHARES)
        selections.append(chosen.mean(axis=1))
    sigma = np.sqrt(np.concatenate(variances) * rows.horizon)
    return sigma, np.concatenate(selections).mean(axis=0).astype(np.float64)


def _tensors(rows: Rows, inputs: Mapping[str, tuple[float, float]]) -> tuple[Float32s, Float32s, Float32s]:
    """Return what the network reads of each row: the newest hour, the window before it, the calendar after it.

    An hour of the window that is not known counts as the mean. The newest hour must be known.
    """
    static = np.stack([_standard(name, _relative(rows, name), inputs) for name in STATIC], axis=-1)
    hours = [_standard(name, _relative(rows, name, network.WINDOW), inputs) for name in OBSERVED]
    past = np.nan_to_num(np.stack(hours, axis=-1), nan=0.0)
    return static.astype(np.float32), past.astype(np.float32), _calendar(rows).astype(np.float32)


def _relative(rows: Rows, name: str, hours: int = 0) -> Floats:
    """Return a feature of each row, or of the `hours` up to it; volatilities less the level of the newest hour."""
    values = rows.window(name, hours) if hours else rows.column(name)
    if name not in RELATIVE:
        return values
    level = rows.column(LEVEL)
    return values - (level[:, None] if hours else level)


def _mean_and_scale(values: Floats) -> tuple[float, float]:
    deviation = float(values.std())
    return float(values.mean()), 1 / deviation if deviation > 1e-12 else 0.0


def _standard(name: str, values: Floats, inputs: Mapping[str, tuple[float, float]]) -> Floats:
    if name not in inputs:
        return values
    mean, scale = inputs[name]
    return np.clip((values - mean) * scale, -FARTHEST, FARTHEST)


def _calendar(rows: Rows) -> Floats:
    """Return the hour of day and week of each hour of the horizon as points on a circle, shape (n, horizon, 4)."""
    columns = []
    for period, hours in HOURS_OF.items():
        sine, cosine = rows.column(f"sin_{period}"), rows.column(f"cos_{period}")
        angle = np.arctan2(sine, cosine)[:, None] + 2 * np.pi * np.arange(1, rows.horizon + 1) / hours
        columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, axis=-1)


def _library() -> ModuleType:
    """Return JAX. Its thread pool gets one thread: on a busy machine more cost processor time, as OpenMP's do."""
    os.environ.setdefault("NPROC", "1")
    try:
        return import_module("jax")
    except ImportError:
        raise Misconfigured(
            "the forecaster tft is fitted by JAX, which is not installed: pip install -r requirements-tft.txt"
        ) from None
