"""The feature table: nothing in a row is of later than its end, and live values are those of training."""

from dataclasses import replace

import numpy as np
import pytest

from maxxit.learning import features, worlds
from maxxit.learning.hours import Hours, from_bars

WORLD = worlds.world(3, 30, 0.3)


def leaks(make: object) -> list[str]:
    """Return the features that change when everything after their row is cut off, at fifty rows."""
    hours = WORLD[0]
    whole = make(hours)  # type: ignore[operator]
    found = set()
    for rows in np.random.default_rng(0).integers(features.WARM_UP + 2, len(hours), 50):
        cut = make(hours.until(int(rows)))  # type: ignore[operator]
        found |= {name for name in whole if cut[name][rows - 1] != whole[name][rows - 1]}
    return sorted(found)


def test_no_feature_changes_when_the_future_is_cut_off() -> None:
    assert leaks(features.table) == []


def test_a_planted_look_into_the_future_is_found() -> None:
    def leaking(hours: Hours) -> dict[str, np.ndarray]:
        columns = features.table(hours)
        return columns | {"planted": np.append(columns["return_1h"][1:], np.nan)}

    assert leaks(leaking) == ["planted"]


def test_a_live_row_is_the_row_of_training() -> None:
    hours = WORLD[1]
    whole = features.table(hours)
    begin = len(hours) - features.WARM_UP
    columns = {name: getattr(hours, name)[begin:] for name in
               ("close", "high", "low", "volume", "variance", "posts", "sides")}  # fmt: skip
    live = features.table(Hours(hours.symbol, hours.first + begin, **columns))
    assert {name: live[name][-1] for name in live} == {name: whole[name][-1] for name in whole}
    assert np.isfinite([column[-1] for column in whole.values()]).all()
    assert len(whole) == 37


def test_rows_before_the_warm_up_and_after_a_long_gap_have_no_features() -> None:
    hours = WORLD[2]
    assert np.isnan(features.table(hours)["return_1h"][: features.WARM_UP - 1]).all()
    close = hours.close.copy()
    close[400:410] = np.nan
    gapped = features.table(replace(hours, close=close))
    assert np.isnan(gapped["return_1h"][420])
    assert np.isfinite(gapped["return_1h"][409 + features.WARM_UP])


def test_hours_are_made_of_closed_bars_only() -> None:
    opened = np.arange(0, 300 * 30, 300, dtype=np.int64)  # two hours and a half
    price = 100 + np.arange(30, dtype=np.float64)
    hours = from_bars("X", opened, price + 1, price - 1, price, np.ones(30))
    assert hours is not None
    assert len(hours) == 2
    assert hours.close.tolist() == [111.0, 123.0]
    assert (hours.high[0], hours.low[0], hours.volume[0]) == (112.0, 99.0, 12.0)
    assert hours.variance[1] == pytest.approx((np.diff(np.log(price[11:24])) ** 2).sum())


def test_a_target_lies_after_its_row() -> None:
    hours = WORLD[0]
    returns, volatility = features.target(hours, 6)
    assert returns[100] == pytest.approx(np.log(hours.close[106] / hours.close[100]))
    assert volatility[100] == pytest.approx(np.sqrt(hours.variance[101:107].mean()))
    assert np.isnan(returns[-6:]).all()
    assert np.isfinite(volatility[-7])
    assert np.isnan(volatility[-6:]).all()
