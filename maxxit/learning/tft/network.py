"""The network of a temporal fusion transformer, written once for numpy and for jax.numpy. Pure.

`xp` is either of them: JAX differentiates what numpy forecasts. Lim and others, Temporal Fusion
Transformers for Interpretable Multi-horizon Time Series Forecasting, 2021. Two differences: only the last hour of the
horizon is forecast, since the horizon is what a model is for; and there is no dropout, so that the two linear layers
that follow each other in the paper's residual network are one.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxxit.learning.statistics import LEVELS

STATIC = ("log_volatility_6h", "log_volatility_24h", "log_volatility_72h", "log_volatility_168h", "log_range_24h",
          "log_volatility_1d_ago", "downside_24h")  # fmt: skip
"""Features of the newest hour that the whole window is seen by."""
CALENDAR = ("sin_day", "cos_day", "sin_week", "cos_week")
"""Known of the hours to come, too."""
OBSERVED = ("return_1h", "log_volatility_1h", "volume_z_1h", "log_posts_1h", "sentiment_1h", *CALENDAR)
"""Features of every hour of the window."""
GROUPS = {"static": STATIC, "past": OBSERVED, "future": CALENDAR}
WINDOW = 24
"""Hours before the forecast that are read, the newest included."""
HIDDEN, HEADS = 16, 4

Scan = Callable[..., tuple[Any, Any]]
Weights = Mapping[str, Any]
Float32s = NDArray[np.float32]


def _shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name, in the order in which they are stored."""
    shapes: dict[str, tuple[int, ...]] = {}

    def gate(name: str, outputs: int, many: tuple[int, ...] = ()) -> None:
        each = (*many, 1) if many else ()
        shapes[f"{name}.gate"] = (*many, HIDDEN, 2 * outputs)
        shapes[f"{name}.gate_bias"] = (*each, 2 * outputs)
        shapes[f"{name}.scale"] = shapes[f"{name}.shift"] = (*each, outputs)

    def residual(name: str, inputs: int, outputs: int, *, context: bool = False, many: int = 0) -> None:
        copies, each = ((many,), (many, 1)) if many else ((), ())
        shapes[f"{name}.in"] = (*copies, inputs, HIDDEN)
        shapes[f"{name}.in_bias"] = (*each, HIDDEN)
        if context:
            shapes[f"{name}.context"] = (HIDDEN, HIDDEN)
        if inputs != outputs:
            shapes[f"{name}.skip"] = (*copies, inputs, outputs)
        gate(name, outputs, copies)

    for group, names in GROUPS.items():
        count = len(names)
        shapes[f"{group}.embed"] = shapes[f"{group}.embed_bias"] = (count, 1, HIDDEN)
        residual(f"{group}.choice", count * HIDDEN, count, context=group != "static")
        residual(f"{group}.each", HIDDEN, HIDDEN, many=count)
    for name in ("selection", "hidden", "cell", "enrichment"):
        residual(f"context.{name}", HIDDEN, HIDDEN)
    for name in ("encoder", "decoder"):
        shapes[f"{name}.input"] = shapes[f"{name}.state"] = (HIDDEN, 4 * HIDDEN)
        shapes[f"{name}.bias"] = (4 * HIDDEN,)
    gate("recurrent", HIDDEN)
    residual("enriched", HIDDEN, HIDDEN, context=True)
    for name in ("query", "key"):
        shapes[f"attention.{name}"] = (HIDDEN, HIDDEN)
    shapes["attention.value"] = (HIDDEN, HIDDEN // HEADS)
    shapes["attention.out"] = (HIDDEN // HEADS, HIDDEN)
    gate("attended", HIDDEN)
    residual("last", HIDDEN, HIDDEN)
    gate("output", HIDDEN)
    shapes["quantiles"] = (HIDDEN, len(LEVELS))
    shapes["quantiles_bias"] = (len(LEVELS),)
    return shapes


SHAPES = _shapes()
SIZE = sum(prod(shape) for shape in SHAPES.values())
"""How many numbers the network has."""


def unpack(flat: Any) -> dict[str, Any]:
    """Return the weights by name as views of one vector of `SIZE` numbers."""
    weights, at = {}, 0
    for name, shape in SHAPES.items():
        weights[name] = flat[at : at + prod(shape)].reshape(shape)
        at += prod(shape)
    return weights


def pack(weights: Weights) -> Float32s:
    """Return the one vector of weights by name: the inverse of `unpack`."""
    return np.concatenate([np.asarray(weights[name]).ravel() for name in SHAPES])


def initial(random: np.random.Generator) -> Float32s:
    """Return untrained weights: uniform by Glorot and Bengio (2010), biases 0, scales and forget gates 1."""
    flat = np.zeros(SIZE, dtype=np.float32)
    for name, weight in unpack(flat).items():
        if name.endswith(".scale"):
            weight[...] = 1
        elif name in ("encoder.bias", "decoder.bias"):
            weight[HIDDEN : 2 * HIDDEN] = 1
        elif not name.endswith(("bias", ".shift")):
            limit = np.sqrt(6 / sum(weight.shape[-2:]))
            weight[...] = random.uniform(-limit, limit, weight.shape)
    return flat


def loop(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any) -> tuple[Any, Any]:
    """Return the last carry and the outputs of `step(carry, input)`, as `jax.lax.scan` does."""
    outputs = []
    for one in inputs:
        carry, output = step(carry, one)
        outputs.append(output)
    return carry, np.stack(outputs)


def forward(xp: Any, scan: Scan, w: Weights, static: Any, past: Any, future: Any) -> tuple[Any, Any]:
    """Return the quantiles at `LEVELS`, shape (n, 7), and how much each of `OBSERVED` counts, shape (n, `WINDOW`, 9).

    Args:
        scan: `loop`, or `jax.lax.scan`.
        static: shape (n, 7), `STATIC`.
        past: shape (n, `WINDOW`, 9), oldest hour first.
        future: shape (n, horizon, 4), the hours to come.
    """
    whole, _ = _select(xp, w, "static", static[:, None], None)
    context = {
        name: _residual(xp, w, f"context.{name}", whole)
        for name in ("selection", "hidden", "cell", "enrichment")
    }
    before, chosen = _select(xp, w, "past", past, context["selection"])
    after, _ = _select(xp, w, "future", future, context["selection"])
    encoded, hidden, cell = _lstm(
        xp, scan, w, "encoder", before, context["hidden"][:, 0], context["cell"][:, 0]
    )
    decoded, _, _ = _lstm(xp, scan, w, "decoder", after, hidden, cell)
    inputs = xp.concatenate([before, after], axis=1)
    recurrent = _gated(xp, w, "recurrent", xp.concatenate([encoded, decoded], axis=1), inputs)
    enriched = _residual(xp, w, "enriched", recurrent, context["enrichment"])
    attended = _gated(xp, w, "attended", _attention(xp, w, enriched), enriched[:, -1])
    last = _gated(xp, w, "output", _residual(xp, w, "last", attended), recurrent[:, -1])
    return last @ w["quantiles"] + w["quantiles_bias"], chosen


def _residual(xp: Any, w: Weights, name: str, x: Any, context: Any = None) -> Any:
    """Return the gated residual network of `x`."""
    inner = x @ w[f"{name}.in"] + w[f"{name}.in_bias"]
    if context is not None:
        inner = inner + context @ w[f"{name}.context"]
    elu = xp.where(inner > 0, inner, xp.expm1(xp.minimum(inner, 0)))
    return _gated(xp, w, name, elu, x @ w[f"{name}.skip"] if f"{name}.skip" in w else x)


def _gated(xp: Any, w: Weights, name: str, x: Any, skip: Any) -> Any:
    """Return the layer norm of `skip` plus the gated linear unit of `x`."""
    both = x @ w[f"{name}.gate"] + w[f"{name}.gate_bias"]
    middle = both.shape[-1] // 2
    total = skip + both[..., :middle] * _sigmoid(xp, both[..., middle:])
    away = total - total.mean(axis=-1, keepdims=True)
    spread = xp.sqrt((away * away).mean(axis=-1, keepdims=True) + 1e-5)
    return away / spread * w[f"{name}.scale"] + w[f"{name}.shift"]


def _select(xp: Any, w: Weights, group: str, x: Any, context: Any) -> tuple[Any, Any]:
    """Return the weighted sum of the inputs of each hour, shape (n, hours, hidden), and the weights."""
    rows, hours, count = x.shape
    embedded = x.reshape(rows * hours, count).T[:, :, None] * w[f"{group}.embed"] + w[f"{group}.embed_bias"]
    flat = xp.swapaxes(embedded, 0, 1).reshape(rows, hours, count * HIDDEN)
    chosen = _softmax(xp, _residual(xp, w, f"{group}.choice", flat, context))
    made = _residual(xp, w, f"{group}.each", embedded)
    weighted = (made * chosen.reshape(rows * hours, count).T[:, :, None]).sum(axis=0)
    return weighted.reshape(rows, hours, HIDDEN), chosen


def _lstm(xp: Any, scan: Scan, w: Weights, name: str, x: Any, hidden: Any, cell: Any) -> tuple[Any, Any, Any]:
    """Return the outputs of every hour, and the last state of a long short-term memory."""
    state = w[f"{name}.state"]

    def step(before: tuple[Any, Any], fed: Any) -> tuple[tuple[Any, Any], Any]:
        hidden, cell = before
        gates = fed + hidden @ state
        opened = _sigmoid(xp, gates[:, : 3 * HIDDEN])
        kept = opened[:, HIDDEN : 2 * HIDDEN] * cell
        cell = kept + opened[:, :HIDDEN] * xp.tanh(gates[:, 3 * HIDDEN :])
        hidden = opened[:, 2 * HIDDEN :] * xp.tanh(cell)
        return (hidden, cell), hidden

    fed = x @ w[f"{name}.input"] + w[f"{name}.bias"]
    (hidden, cell), outputs = scan(step, (hidden, cell), xp.swapaxes(fed, 0, 1))
    return xp.swapaxes(outputs, 0, 1), hidden, cell


def _attention(xp: Any, w: Weights, x: Any) -> Any:
    """Return what the last hour reads of all hours: interpretable attention, whose heads share their values."""
    rows, hours, _ = x.shape
    width = HIDDEN // HEADS
    query = (x[:, -1] @ w["attention.query"]).reshape(rows, HEADS, 1, width)
    keys = xp.swapaxes((x @ w["attention.key"]).reshape(rows, hours, HEADS, width), 1, 2)
    scores = (query * keys).sum(axis=-1) / np.float32(np.sqrt(width))
    read = _softmax(xp, scores).mean(axis=1)
    values = x @ w["attention.value"]
    return (read[:, :, None] * values).sum(axis=1) @ w["attention.out"]


def _sigmoid(xp: Any, x: Any) -> Any:
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def _softmax(xp: Any, x: Any) -> Any:
    raised = xp.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
