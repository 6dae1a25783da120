"""The evaluator: simple returns where money is meant, and how many days of data there were."""

from dataclasses import replace

import numpy as np
import pytest

from maxxit.core.errors import Rejected
from maxxit.learning import evaluate, statistics, worlds
from maxxit.learning.evaluate import COST, Data
from maxxit.learning.forecasters import FORECASTERS, Forecasts, Rows


def outcome(returns: list[float], first_step: float) -> evaluate.Tested:
    """Four folds of one row each; the forecast is always far above the threshold, long."""
    count = len(returns)
    ones = np.ones(count)
    ends = np.arange(count, dtype=np.int64)
    rows = Rows(("a",), ones[:, None], ones, 6, np.array(returns), ones, ones[:, None], ends)
    data = Data(rows, ends, np.zeros(count, dtype=np.int64), np.full(count, first_step), 200.0)
    made = Forecasts(ones * 0.01, ones * 0.1, np.tile(np.array(statistics.LEVELS), (count, 1)))
    return evaluate.Tested(data, made, ends)


def test_what_trades_earn_is_a_simple_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """A price that doubles and halves again is +100 % and −50 % of the stake; as log returns both would be nothing."""
    doubles = float(np.log(2))
    given = outcome([doubles, -doubles, doubles, -doubles], float(np.log(1.1)))
    monkeypatch.setattr(evaluate, "walk_forward", lambda *_: given)

    found = evaluate.direction("ridge", given.data, seed=1)

    assert found.total_return == pytest.approx(1 - 0.5 + 1 - 0.5 - 4 * COST)
    late_up, late_down = 2 / 1.1 - 1, 0.5 / 1.1 - 1
    assert found.fold_returns == pytest.approx([one - COST for one in (late_up, late_down) * 2])
    assert found.static_return == pytest.approx(1.0 - COST)


def test_a_direction_model_of_one_hour_is_refused() -> None:
    data = evaluate.gather(worlds.world(1, 60), 1)
    with pytest.raises(Rejected, match="at least 2 h, not 1 h") as caught:
        evaluate.direction("ridge", data, seed=1)
    assert caught.value.code == "horizon_too_short"


def test_days_are_those_with_data() -> None:
    whole = worlds.world(1, 60)
    gapped = []
    for hours in whole:
        close = hours.close.copy()
        close[200:440] = np.nan  # ten days
        gapped.append(replace(hours, close=close))

    assert evaluate.gather(whole, 6).days == 60
    assert evaluate.gather(gapped, 6).days == 50
    assert evaluate.gather([*gapped[1:], whole[0]], 6).days == 60  # one symbol has them


def test_a_volatility_model_is_compared_with_the_model_that_serves_by_its_id() -> None:
    data = evaluate.gather(worlds.world(1, 60), 6)
    itself = evaluate.Incumbent(17, "har", FORECASTERS.open("har").fit(data.rows))

    found = evaluate.volatility("har", data, seed=1, incumbent=itself).incumbent

    assert found is not None
    assert found.model == 17
    assert found.low_pct < 0.5
    assert evaluate.volatility("har", data, seed=1).incumbent is None
