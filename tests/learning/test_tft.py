"""The temporal fusion transformer: what it reads, what is stored of it, and what becomes of damaged weights.

Tests that fit it need JAX; everything that forecasts from stored weights is numpy.
"""

import base64
import sys
from typing import Any

import numpy as np
import pytest

from maxxit.core.errors import InvalidInput, Misconfigured
from maxxit.learning import evaluate, features, live, statistics, worlds
from maxxit.learning.evaluate import Data
from maxxit.learning.forecasters import FORECASTERS
from maxxit.learning.hours import Hours
from maxxit.learning.models import TrainedModel
from maxxit.learning.tft import forecaster, network
from maxxit.learning.tft.forecaster import Transformer

HORIZON = 6
Z = [-1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64]


@pytest.fixture(scope="module")
def series() -> list[Hours]:
    return worlds.world(4, 40)


@pytest.fixture(scope="module")
def data(series: list[Hours]) -> Data:
    return evaluate.gather(series, HORIZON)


def coded(weights: np.ndarray) -> str:
    return base64.b64encode(weights.astype("<f4").tobytes()).decode()


def parameters(**changed: Any) -> dict[str, Any]:
    """Return parameters of an untrained network."""
    values: dict[str, Any] = {
        "inputs": {name: [0.1, 0.5] for name in forecaster.STANDARDISED},
        "target": [-0.2, 0.6],
        "network": coded(network.initial(np.random.default_rng(3))),
        "selection": dict.fromkeys(network.OBSERVED, 1 / 9),
        "z": Z,
    }
    return values | changed


def test_a_window_ends_with_its_row_and_reaches_no_other_symbol(series: list[Hours], data: Data) -> None:
    windows = data.rows.window("return_1h", network.WINDOW)
    assert np.array_equal(windows[:, -1], data.rows.column("return_1h"))
    for place, hours in enumerate(series):
        alone = features.table(hours)["return_1h"]
        for row in np.flatnonzero(data.symbols == place)[[0, 40, -1]]:
            last = int(data.ends[row]) - hours.first - 1
            expected = alone[last - network.WINDOW + 1 : last + 1]
            assert np.array_equal(windows[row], expected, equal_nan=True)


def test_a_live_forecast_is_that_of_the_evaluation_and_does_not_see_the_future(
    series: list[Hours], data: Data
) -> None:
    model = TrainedModel(kind="tft", horizon_hours=HORIZON, parameters=parameters())
    for place in (300, 611, 900):
        chosen = (data.symbols == 2) & (data.ends == series[2].ends()[place])
        expected = Transformer().forecast(model.parameters, data.rows.where(chosen))
        found = live.forecast(model, series[2].until(place + 1))
        assert found.usable
        assert found.sigma == pytest.approx(expected.sigma[0], rel=1e-5)
        assert found.quantiles == pytest.approx(list(expected.quantiles[0]), rel=1e-5)


def test_the_calendar_of_the_horizon_is_that_of_the_hours_to_come(series: list[Hours]) -> None:
    rows = evaluate.gather(series[:1], HORIZON).rows
    known = forecaster._calendar(rows)
    for ahead in range(1, HORIZON + 1):
        expected = np.column_stack([rows.column(name) for name in network.CALENDAR])[ahead:]
        assert known[:-ahead, ahead - 1] == pytest.approx(expected, abs=1e-9)


def test_every_input_counts_and_the_inputs_of_an_hour_share_the_whole(data: Data) -> None:
    known = forecaster.checked(parameters())
    some = data.rows.where(np.arange(5))
    tensors = forecaster._tensors(some, known.inputs)
    made, chosen = network.forward(np, network.loop, known.weights(), *tensors)
    assert made.shape == (5, len(statistics.LEVELS))
    assert chosen.sum(axis=-1) == pytest.approx(np.ones((5, network.WINDOW)), rel=1e-5)
    for place, tensor in enumerate(tensors):
        for column in range(tensor.shape[-1]):
            other = [one.copy() for one in tensors]
            other[place][..., column] += 1
            changed, _ = network.forward(np, network.loop, known.weights(), *other)
            assert np.abs(changed - made).max() > 1e-6


def test_without_weights_the_forecast_is_that_of_the_biases(data: Data) -> None:
    """The quantiles are then the same for all: the variance is the mean of theirs, by their shares."""
    weights = np.zeros(network.SIZE, dtype=np.float32)
    quantiles = np.array([-2, -1.5, -0.5, 0.25, 0.5, 1.5, 2.5])
    network.unpack(weights)["quantiles_bias"][...] = quantiles
    some = data.rows.where(np.arange(300))  # more than are forecast at once
    made = Transformer().forecast(parameters(network=coded(weights)), some)
    level = np.exp(some.column("log_volatility_168h"))
    shares = np.array([0.075, 0.1, 0.2, 0.25, 0.2, 0.1, 0.075])
    variance = float((shares * np.exp(2 * (quantiles * 0.6 - 0.2))).sum())
    assert made.sigma == pytest.approx(level * np.sqrt(variance * HORIZON), rel=1e-6)
    assert made.quantiles[:, 5] == pytest.approx(made.sigma * Z[5])
    assert not made.mean.any()


def test_an_unknown_hour_of_the_window_counts_as_the_mean_and_an_unknown_newest_one_makes_no_forecast(
    series: list[Hours],
) -> None:
    model = TrainedModel(kind="tft", horizon_hours=HORIZON, parameters=parameters())
    short = series[0].until(features.WARM_UP + 3)  # only the last hours of the window have features
    assert live.forecast(model, short).usable
    short.close[-1] = np.nan
    assert not live.forecast(model, short).usable


RAW = base64.b64decode(parameters()["network"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("network", "%%", "is not base64"),
        ("network", base64.b64encode(RAW[:-4]).decode(), f"bytes, not {4 * network.SIZE}"),
        ("network", base64.b64encode(RAW[:-4] + b"\x00\x00\xc0\x7f").decode(), "not a finite number"),
        ("inputs", {"return_1h": [0, 1]}, "names other inputs"),
        ("inputs", parameters()["inputs"] | {"return_1h": [0, -1]}, "greater than or equal to 0"),
        ("target", [0, 0], "greater than 0"),
        ("z", Z[:-1], "at least 7 items"),
        ("z", [*Z[:-1], float("nan")], "finite number"),
        ("selection", {"return_1h": 2}, "less than or equal to 1"),
        ("surplus", 1, "not permitted"),
    ],
)
def test_damaged_parameters_are_refused_by_field(field: str, value: object, message: str, data: Data) -> None:
    with pytest.raises(InvalidInput) as caught:
        Transformer().forecast(parameters(**{field: value}), data.rows)
    (name, problem), *others = caught.value.problems.items()
    assert name.partition(".")[0] == field
    assert message in problem
    assert "train the model again" in problem
    assert not others


@pytest.mark.parametrize("field", parameters())
def test_parameters_that_lack_a_field_are_refused_by_it(field: str, data: Data) -> None:
    without = {name: value for name, value in parameters().items() if name != field}
    with pytest.raises(InvalidInput, match=field):
        Transformer().forecast(without, data.rows)


def test_without_jax_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, data: Data) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    forecaster._gradient.cache_clear()
    with pytest.raises(Misconfigured, match=r"pip install -r requirements-tft\.txt"):
        FORECASTERS.open("tft").fit(data.rows)


def test_what_a_fit_stores_is_accepted_and_says_how_much_each_input_counts(
    monkeypatch: pytest.MonkeyPatch, data: Data
) -> None:
    calls = []

    def no_slope(weights: np.ndarray, *tensors: np.ndarray) -> np.ndarray:
        calls.append([one.shape for one in tensors])
        return np.zeros_like(weights)

    monkeypatch.setattr(forecaster, "_gradient", lambda: no_slope)
    stored = Transformer().fit(data.rows)
    batch = forecaster.BATCH
    assert calls[0] == [(batch, 7), (batch, 24, 9), (batch, HORIZON, 4), (batch,)]
    assert forecaster.LEAST_STEPS <= len(calls) <= forecaster.MOST_STEPS
    assert forecaster.checked(stored).z == stored["z"]
    assert sum(stored["selection"].values()) == pytest.approx(1, abs=1e-5)
    assert Transformer().fit(data.rows) == stored


def test_the_steps_reach_the_minimum() -> None:
    wanted = np.array([0.2, -0.3, 0.1], dtype=np.float32)
    weights = np.zeros(3, dtype=np.float32)
    for rows, step in forecaster._adam(weights, 50, np.random.default_rng(1)):
        assert ((rows >= 0) & (rows < 50)).all()
        step(2 * (weights - wanted))
    assert weights == pytest.approx(wanted, abs=0.05)


@pytest.fixture
def jax() -> Any:
    forecaster._gradient.cache_clear()
    return pytest.importorskip("jax", reason="pip install -r requirements-tft.txt")


@pytest.mark.limit(600)
def test_jax_fits_what_numpy_forecasts(jax: Any, data: Data) -> None:
    known = forecaster.checked(parameters())
    some = data.rows.where(np.arange(0, 640, 10))
    tensors = forecaster._tensors(some, known.inputs)
    theirs, _ = network.forward(jax.numpy, jax.lax.scan, known.weights(), *tensors)
    ours, _ = network.forward(np, network.loop, known.weights(), *tensors)
    assert ours == pytest.approx(np.asarray(theirs), abs=1e-4)

    stored = Transformer().fit(data.rows)
    assert stored == Transformer().fit(data.rows)
    found = Transformer().forecast(stored, data.rows)
    assert np.corrcoef(np.log(found.sigma), np.log(data.rows.volatility))[0, 1] > 0.5
