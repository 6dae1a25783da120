"""Acting by numpy: it chooses what stable-baselines3's own network chooses, and holds where it cannot choose."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery.exceptions import SoftTimeLimitExceeded

from maxxit.core.errors import InvalidInput
from maxxit.learning import features, live
from maxxit.learning.forecasters import FORECASTERS
from maxxit.learning.models import TrainedModel
from maxxit.learning.rl import acting, network
from maxxit.learning.rl.acting import Hold, act
from maxxit.learning.rl.parameters import checked, coded
from maxxit.learning.rl.tape import ACTIONS, states
from maxxit.learning.rl.training import ACTIVATIONS
from tests.learning.rl import agents
from tests.learning.rl.agents import HORIZON, Z, parameters

RECORDED = json.loads((Path(__file__).parent / "recorded" / "networks.json").read_text())


@pytest.fixture(scope="module")
def series() -> Any:
    return agents.series()


@pytest.fixture(scope="module")
def data(series: Any) -> Any:
    return agents.data(series)


@pytest.mark.parametrize("kind", ["dqn", "ppo"])
def test_it_chooses_what_the_library_chose(kind: str) -> None:
    """Recorded by `python -m tests.learning.rl.record`."""
    theirs = RECORDED[kind]
    states = np.array(theirs["states"], dtype=np.float32)
    flat = np.frombuffer(base64.b64decode(theirs["network"]), "<f4")
    layers = network.unpack(flat, states.shape[1], theirs["hidden"])
    values = network.forward(layers, ACTIVATIONS[kind], states)
    assert values == pytest.approx(np.array(theirs["values"]), abs=1e-5)
    assert np.argmax(values, axis=1).tolist() == theirs["actions"]
    assert set(theirs["actions"]) == {0, 1, 2}


def test_the_position_of_a_decision_is_that_of_the_decisions_before_it(data: Any) -> None:
    stored = parameters()
    known, some = checked(stored), data.rows.where(np.arange(40, 80))
    seen = acting.decisions(known, some)
    assert seen.shape == (40, 24 // HORIZON + 1, 1)
    for row in range(len(some)):
        position = 0.0
        for change in seen[row, :, 0]:
            state = states(np.array([[change]]), position) if np.isfinite(change) else None
            values = network.forward(known.layers(), "tanh", state) if state is not None else None
            position = 0.0 if values is None else float(ACTIONS[int(np.argmax(values))])
        assert act(stored, some).sides[row] == position
    assert np.array_equal(seen[:, -1, 0], np.clip(some.column("return_6h"), -4, 4))


def test_a_live_forecast_is_that_of_the_evaluation_and_does_not_see_the_future(
    series: Any, data: Any
) -> None:
    model = TrainedModel(kind="ppo", horizon_hours=HORIZON, parameters=parameters())
    sides = set()
    for row in np.flatnonzero(data.symbols == 2)[[4, 30, 61, 62, 63, 90]]:
        place = int(data.ends[row]) - series[2].first - 1
        expected = FORECASTERS.open("ppo").forecast(model.parameters, data.rows.where([row]))
        found = live.forecast(model, series[2].until(place + 1))
        assert found.usable
        assert found.mean == pytest.approx(expected.mean[0], rel=1e-9)
        assert found.sigma == pytest.approx(expected.sigma[0], rel=1e-9)
        sides.add(np.sign(found.mean))
    assert len(sides) > 1


def test_the_mean_is_the_edge_on_the_side_and_the_volatility_that_of_har(data: Any) -> None:
    made = FORECASTERS.open("dqn").forecast(parameters(), data.rows)
    sides = act(parameters(), data.rows).sides
    assert made.mean == pytest.approx(sides * 0.1 * made.sigma)
    assert made.quantiles == pytest.approx(made.mean[:, None] + made.sigma[:, None] * np.array(Z))
    assert set(sides) == {-1.0, 0.0, 1.0}


def test_an_unknown_newest_hour_is_held_for_and_makes_no_forecast(series: Any, data: Any) -> None:
    rows = data.rows.where(np.arange(3))
    unknown = data.rows.hours.copy()
    unknown[rows.places[1], rows.names.index("return_6h")] = np.nan
    blind = rows.__class__(
        rows.names,
        rows.features,
        rows.ewma,
        rows.horizon,
        rows.returns,
        rows.volatility,
        unknown,
        rows.places,
    )
    acted = act(parameters(), blind)
    assert acted.held == (None, Hold.UNKNOWN_STATE, None)
    assert acted.sides[1] == 0
    short = series[0].until(features.WARM_UP + 30)
    model = TrainedModel(kind="dqn", horizon_hours=HORIZON, parameters=parameters())
    assert live.forecast(model, short).usable
    short.close[-1] = np.nan
    assert not live.forecast(model, short).usable


def test_values_that_are_not_finite_are_held_for(data: Any) -> None:
    huge = np.full_like(agents.weights(), 3e38)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = parameters(activation="relu", network=coded(huge))
        acted = act(stored, data.rows)
        made = FORECASTERS.open("dqn").forecast(stored, data.rows)
    assert set(acted.held) == {Hold.NOT_FINITE}
    assert not acted.sides.any()
    assert not made.mean.any()
    assert (made.sigma > 0).all()


def test_any_exception_is_held_for_and_the_end_of_a_pass_is_not(
    monkeypatch: pytest.MonkeyPatch, data: Any
) -> None:
    def fails(error: BaseException) -> None:
        def forward(*of: Any) -> Any:
            raise error

        monkeypatch.setattr(network, "forward", forward)

    fails(ZeroDivisionError())
    assert act(parameters(), data.rows).held == (Hold.FAILED,) * len(data.rows)
    assert not FORECASTERS.open("dqn").forecast(parameters(), data.rows).mean.any()
    fails(SoftTimeLimitExceeded())
    with pytest.raises(SoftTimeLimitExceeded):
        act(parameters(), data.rows)


RAW = base64.b64decode(parameters()["network"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("network", "%%", "is not base64"),
        ("network", "é", "is not base64"),
        ("network", base64.b64encode(RAW[:-4]).decode(), f"has {len(RAW) - 4} bytes, not {len(RAW)}"),
        ("network", base64.b64encode(RAW[:-4] + b"\x00\x00\xc0\x7f").decode(), "not a finite number"),
        ("inputs", [], "at least 1 item"),
        ("inputs", [["return_6h", 0.0, -1.0]], "greater than or equal to 0"),
        ("hidden", [16, 0], "greater than or equal to 1"),
        ("activation", "step", "'relu' or 'tanh'"),
        ("edge", -0.1, "greater than or equal to 0"),
        ("edge", float("nan"), "finite number"),
        ("coefficients", {"constant": 1.0}, "names other terms"),
        ("z", Z[:-1], "at least 7 items"),
        ("sensitivity", {"position": float("inf")}, "finite number"),
        ("actions", {"long": 2}, "less than or equal to 1"),
        ("surplus", 1, "not permitted"),
    ],
)
def test_damaged_parameters_are_refused_by_field_and_held_for(
    field: str, value: object, message: str, data: Any
) -> None:
    damaged = parameters(**{field: value})
    with pytest.raises(InvalidInput) as caught:
        FORECASTERS.open("dqn").forecast(damaged, data.rows)
    (name, problem), *others = caught.value.problems.items()
    assert name.partition(".")[0] == field
    assert message in problem
    assert "train the model again" in problem
    assert not others
    assert set(act(damaged, data.rows).held) == {Hold.DAMAGED}


@pytest.mark.parametrize("field", parameters())
def test_parameters_that_lack_a_field_are_refused_by_it(field: str, data: Any) -> None:
    without = {name: value for name, value in parameters().items() if name != field}
    with pytest.raises(InvalidInput, match=field):
        FORECASTERS.open("ppo").forecast(without, data.rows)


def test_a_feature_that_the_table_lacks_is_held_for(data: Any) -> None:
    assert set(act(parameters(inputs=[["no_such", 0.0, 1.0]]), data.rows).held) == {Hold.FAILED}
