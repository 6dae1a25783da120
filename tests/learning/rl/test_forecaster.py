"""The fit without and with the library, its checkpoints, and the gate that agents stand behind."""

import json
import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command

from maxxit.core.errors import Misconfigured, Rejected
from maxxit.learning import evaluate, registry
from maxxit.learning.forecasters import DEFAULT, FORECASTERS
from maxxit.learning.models import TrainedModel
from maxxit.learning.policy import Rl, policy
from maxxit.learning.rl import checkpoints, network, tape, training
from maxxit.learning.rl.forecaster import Dqn, Ppo
from maxxit.learning.rl.parameters import checked
from maxxit.learning.states import ModelState
from tests.learning.rl import agents
from tests.learning.rl.agents import HORIZON
from tests.learning.stored import trained

KINDS = ("dqn", "ppo")


@pytest.fixture(autouse=True)
def data_folder(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture(scope="module")
def series() -> Any:
    return agents.series()


@pytest.fixture(scope="module")
def rows(series: Any) -> Any:
    return agents.data(series).rows


class Trainings:
    """In place of the library: random weights, always the same; it can be killed."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.killed_at = 0

    def __call__(self, kind: str, of: tape.Tape, rules: Rl) -> Any:
        if len(self.made) + 1 == self.killed_at:
            self.killed_at = 0
            raise SystemExit
        self.made.append(len(of))
        return agents.weights(of.known.shape[1], seed=5)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(training, "train", made)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_library_it_says_what_to_install(
    kind: str, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(Misconfigured, match=rf"{kind} is fitted by .*pip install -r requirements-rl\.txt"):
        FORECASTERS.open(kind).fit(rows)


def test_a_feature_that_nobody_made_is_refused_by_name(rows: Any) -> None:
    with pytest.raises(Misconfigured, match=r"rl\.features of config/models\.yaml names moon: .*return_1h"):
        Dqn(Rl(features=("moon",))).fit(rows)


def test_the_defaults_are_those_of_the_guide_and_no_agent_is_default() -> None:
    rules = policy().rl
    assert rules == Rl()
    assert (rules.learning_rate, rules.discount) == (0.01, 0.9)
    assert (rules.epsilon_first, rules.epsilon_last, rules.epsilon_decay) == (0.2, 0.01, 0.995)
    assert not {DEFAULT, *policy().train.kinds} & {"dqn", "ppo"}
    share = training.epsilon(rules, 1000)
    assert [share(1 - step / 1000) for step in (0, 1, 10)] == pytest.approx(
        [0.2, 0.2 * 0.995, 0.2 * 0.995**10]
    )
    assert [share(1 - step / 1000) for step in (599, 1000)] == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize(("rows", "expected"), [(1, 2_048), (500, 5_000), (10**6, 8_192)])
def test_a_training_is_bounded(rows: int, expected: int) -> None:
    made = tape.Tape(np.zeros((rows, 1)), np.zeros(rows), np.array([[0, rows]]))
    assert training.steps(made) == expected


def test_what_a_fit_stores_is_accepted_and_says_what_it_does(trainings: Trainings, rows: Any) -> None:
    stored = json.loads(json.dumps(Ppo(Rl(features=("sentiment_1h",))).fit(rows)))
    known = checked(stored)
    assert [name for name, *_ in known.inputs] == ["return_6h", "sentiment_1h"]
    assert known.sensitivity.keys() == {"return_6h", "position", "sentiment_1h"}
    assert all(known.sensitivity.values())
    assert sum(known.actions.values()) == pytest.approx(1)
    made = Ppo().forecast(stored, rows)
    sides = np.sign(made.mean)
    if known.edge:
        assert (sides > 0).mean() == pytest.approx(known.actions["long"])
        assert (sides < 0).mean() == pytest.approx(known.actions["short"])
    inside = (rows.returns > made.quantiles[:, 1]) & (rows.returns < made.quantiles[:, 5])
    assert 0.75 < inside.mean() < 0.85


def test_the_edge_is_what_a_position_earned_and_never_below_zero(
    monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    """All weights 0 but the bias of one output: always that side."""
    for place, side in ((0, -1), (2, 1)):
        always = np.zeros_like(agents.weights())
        always[place - 3] = 1
        monkeypatch.setattr(training, "train", lambda *of, always=always: always)
        known = checked(Dqn(Rl(discount=0.5 + place / 10)).fit(rows))
        sigma = Dqn().forecast(known.model_dump(), rows).sigma
        gain = float((side * np.clip(rows.returns / sigma, -4, 4)).mean())
        assert known.edge == pytest.approx(max(0.0, gain))
        assert known.actions["long" if side > 0 else "short"] == 1


def test_a_finished_fit_is_taken_from_its_checkpoint_and_another_is_not(
    trainings: Trainings, rows: Any
) -> None:
    first = Dqn().fit(rows)
    assert json.loads(json.dumps(Dqn().fit(rows))) == json.loads(json.dumps(first))
    assert len(trainings.made) == 1
    Dqn(Rl(discount=0.5)).fit(rows)
    Ppo().fit(rows)
    Dqn().fit(rows.where(np.arange(len(rows) - 1)))
    assert len(trainings.made) == 4


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"network": 1}'])
def test_a_damaged_checkpoint_costs_a_fit_and_is_replaced(
    damage: bytes, trainings: Trainings, rows: Any
) -> None:
    Dqn().fit(rows)
    (path,) = checkpoints.folder().iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    Dqn().fit(rows)
    assert len(trainings.made) == 2
    assert path.read_bytes() == whole


def test_checkpoints_are_bounded_and_their_folder_may_be_missing_or_read_only(
    trainings: Trainings, rows: Any, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    monkeypatch.setattr(checkpoints, "KEPT", 2)
    for place, discount in enumerate((0.1, 0.2, 0.3)):
        Dqn(Rl(discount=discount)).fit(rows)
        for path in checkpoints.folder().iterdir():
            if path.stat().st_mtime > 1_000_000:
                os.utime(path, (place, place))
    assert len(list(checkpoints.folder().iterdir())) == 2
    Dqn(Rl(discount=0.3)).fit(rows)
    assert len(trainings.made) == 3
    monkeypatch.setattr(checkpoints, "folder", lambda: data_folder / "a-file" / "x")
    (data_folder / "a-file").write_text("")
    assert Dqn(Rl(discount=0.4)).fit(rows)["network"]


@pytest.mark.django_db
def test_a_training_that_is_killed_goes_on_and_the_model_that_serves_stays(
    trainings: Trainings, series: Any
) -> None:
    incumbent = trained(kind="ridge", purpose="direction", state=ModelState.SERVING)
    trainings.killed_at = 3
    with pytest.raises(SystemExit):
        registry.train("dqn", HORIZON, series, 1)
    assert [row.pk for row in TrainedModel.objects.all()] == [incumbent.pk]
    row = registry.train("dqn", HORIZON, series, 1).model
    assert len(trainings.made) == 4 + 1  # four folds and the whole, each once
    assert not registry.train("dqn", HORIZON, series, 1).new
    incumbent.refresh_from_db()
    assert (incumbent.state, row.state) == (ModelState.SERVING, ModelState.CANDIDATE)


@pytest.mark.django_db
def test_an_agent_stands_behind_the_gate_of_direction_models_and_its_candidates_count(
    trainings: Trainings, series: Any
) -> None:
    first = registry.train("dqn", HORIZON, series, 1).model
    second = registry.train("ppo", HORIZON, series, 1).model
    assert [row.purpose for row in (first, second)] == ["direction"] * 2
    assert first.metrics["counted_candidates"] == len(evaluate.THRESHOLDS)
    assert second.metrics["counted_candidates"] == 2 * len(evaluate.THRESHOLDS)
    assert "insufficient_history" in [check["name"] for check in first.checks if not check["passed"]]
    with pytest.raises(Rejected, match="is not promoted: insufficient_history"):
        registry.promote(first, by="a person")
    out = StringIO()
    call_command("models", "explain", str(first.pk), "--json", stdout=out)
    assert json.loads(out.getvalue())["terms"].keys() == {"return_6h", "position"}


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("stable_baselines3", reason="torch and pip install -r requirements-rl.txt")


@pytest.mark.limit(600)
@pytest.mark.parametrize("kind", KINDS)
def test_the_library_fits_what_numpy_acts(
    library: Any, kind: str, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    from tests.learning.rl.record import answers

    monkeypatch.setattr(training, "MOST_STEPS", training.LEAST_STEPS)
    made = tape.record(rows, tape.fitted_inputs(rows, ("return_6h",)))
    before = repr(np.random.get_state())
    flat = training.train(kind, made, Rl())
    assert np.array_equal(training.train(kind, made, Rl()), flat)
    assert repr(np.random.get_state()) == before
    model = training.learned(kind, made, Rl(), training.LEAST_STEPS)
    states = tape.states(made.known, np.arange(len(made)) % 3 - 1)
    layers = network.unpack(flat, 3, training.HIDDEN)
    ours = network.forward(layers, training.ACTIVATIONS[kind], states)
    assert ours == pytest.approx(answers(kind, model, states), abs=1e-4)


@pytest.mark.limit(600)
def test_dqn_learns_a_side_that_the_state_shows(library: Any) -> None:
    """Each return has the sign of the state, and is worth its costs."""
    random = np.random.default_rng(1)
    known = random.choice([-1.0, 1.0], (400, 1))
    made = tape.Tape(known, 0.05 * known[:, 0], np.array([[0, 400]]))
    layers = network.unpack(training.train("dqn", made, Rl()), 3, training.HIDDEN)
    values = network.forward(layers, "relu", tape.states(known, np.zeros(400)))
    assert np.array_equal(np.array(tape.ACTIONS)[np.argmax(values, axis=1)], known[:, 0])
