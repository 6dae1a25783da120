"""Boosted trees: what is stored is enough to forecast, and a missing LightGBM is named."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Misconfigured
from maxxit.learning import evaluate, worlds
from maxxit.learning.boosted import Boosted, predict
from maxxit.learning.forecasters import FORECASTERS, Rows

STUMP = [[0, 1.5, 1, 2], [-1, 10.0, 0, 0], [1, -3.0, 3, 4], [-1, 20.0, 0, 0], [-1, 30.0, 0, 0]]


def by_hand(first: float, second: float) -> float:
    if first <= 1.5:
        return 10.0
    return 20.0 if second <= -3.0 else 30.0


@given(st.lists(st.tuples(*[st.sampled_from([-4.0, -3.0, -2.0, 1.5, 1.6])] * 2), min_size=1, max_size=20))
def test_a_row_gets_the_leaves_of_its_side_of_each_threshold(rows: list[tuple[float, float]]) -> None:
    leaf_alone = [[-1, 0.25, 0, 0]]
    found = predict([STUMP, leaf_alone, STUMP], np.array(rows))
    assert found.tolist() == [2 * by_hand(*row) + 0.25 for row in rows]


@pytest.mark.parametrize("left", [0, 1])
def test_a_damaged_tree_with_a_cycle_is_refused(left: int) -> None:
    """A node that points at itself, and one that points upwards; rows that reach a leaf do not make up for another."""
    to_itself_or_up = [[0, 1.5, 1, 2], [0, 1.5, left, 2], [-1, 10.0, 0, 0]]
    assert predict([to_itself_or_up], np.array([[2.0]])).tolist() == [10.0]
    with pytest.raises(ValueError, match="the tree has a cycle"):
        predict([to_itself_or_up], np.array([[2.0], [1.0]]))


def test_the_deepest_tree_of_its_nodes_is_no_cycle() -> None:
    tree = [[0, 0.0, 1, 2]]
    for n in range(1, 20):
        tree += [[-1, float(n - 1), 0, 0], [0, float(n), 2 * n + 1, 2 * n + 2]]
    tree += [[-1, 19.0, 0, 0], [-1, 20.0, 0, 0]]
    assert predict([tree], np.array([[-1.0], [18.5], [30.0]])).tolist() == [0.0, 19.0, 20.0]


def test_a_forecast_reads_its_features_by_name() -> None:
    table = np.array([[-9.0, 7.0, 2.0], [0.0, 7.0, 2.0]])
    rows = Rows(("b", "x", "a"), table, np.ones(2), 4, np.ones(2), np.ones(2), table, np.arange(2))
    parameters = {"features": ["a", "b"], "trees": [STUMP], "z": [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]}

    made = Boosted().forecast(parameters, rows)

    assert made.sigma == pytest.approx(np.exp([20.0, 30.0]) * 2)
    assert made.quantiles[:, 4] == pytest.approx(made.sigma)
    assert made.mean.tolist() == [0, 0]


def test_without_lightgbm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    data = evaluate.gather(worlds.world(1, 60), 6, 6)
    with pytest.raises(Misconfigured, match=r"pip install -r requirements-train\.txt"):
        FORECASTERS.open("lightgbm").fit(data.rows)
