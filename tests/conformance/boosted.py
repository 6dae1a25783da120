"""Our forecasts from stored trees: LightGBM, which grew them, gives the same values."""

import json
from typing import Any

import lightgbm
import numpy as np
import pytest

from maxxit.learning import boosted, evaluate, worlds


@pytest.fixture(scope="module")
def rows() -> Any:
    return evaluate.gather(worlds.world(3, 120), 6).rows


def test_the_stored_trees_give_what_lightgbm_gives(rows: Any) -> None:
    parameters = json.loads(json.dumps(boosted.Boosted().fit(rows)))
    data = lightgbm.Dataset(rows.features, label=np.log(rows.volatility), params=boosted.SETTINGS)
    theirs = lightgbm.train(boosted.SETTINGS, data, num_boost_round=boosted.ROUNDS).predict(rows.features)

    assert boosted.predict(parameters["trees"], rows.features) == pytest.approx(theirs, abs=1e-12)
    assert len(parameters["trees"]) == boosted.ROUNDS
    assert np.corrcoef(theirs, np.log(rows.volatility))[0, 1] > 0.5


def test_the_same_rows_give_the_same_trees(rows: Any) -> None:
    assert boosted.Boosted().fit(rows) == boosted.Boosted().fit(rows)
