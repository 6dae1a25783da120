"""Live forecasts: equal to those of training, stored once, used while they are fresh; their skill."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from maxxit.core import clock
from maxxit.learning import evaluate, features, forecasts, live, sources, worlds
from maxxit.learning.forecasters import Har
from maxxit.learning.forecasts import Direction, Volatility
from maxxit.learning.models import Forecast, TrainedModel
from maxxit.learning.policy import policy
from maxxit.learning.reasons import NoForecast
from maxxit.learning.states import ModelState
from tests.learning.stored import MIDNIGHT, store_candles, trained

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
NOW = MIDNIGHT + timedelta(hours=5, minutes=4)


@pytest.fixture(autouse=True)
def _recorded_clock() -> Iterator[None]:
    with clock.frozen(NOW):
        yield


def test_a_live_forecast_equals_that_of_the_same_row_in_an_evaluation() -> None:
    series = worlds.world(4, 40)
    data = evaluate.gather(series, 6)
    parameters = Har().fit(data.rows)
    row = trained(parameters=parameters)
    place = 700
    chosen = (data.symbols == 1) & (data.ends == series[1].ends()[place])
    expected = Har().forecast(parameters, data.rows.where(chosen))
    found = live.forecast(row, series[1].until(place + 1))
    assert (found.sigma, found.quantiles) == (expected.sigma[0], list(expected.quantiles[0]))


def test_forecasts_of_an_hour_are_stored_once_for_models_that_serve_or_rest_in_shadow() -> None:
    store_candles()
    serves = trained(state="serving")
    shadow = trained(state="shadow", kind="ewma", horizon_hours=24)
    trained(horizon_hours=1)
    assert live.record_forecasts() == {"models": 2, "forecasts": 4, "unusable": 0}
    assert live.record_forecasts()["forecasts"] == 0
    assert {(one.model_id, one.symbol) for one in Forecast.objects.all()} == {
        (row.pk, symbol) for row in (serves, shadow) for symbol in ("BTC", "ETH")
    }
    assert {one.at for one in Forecast.objects.all()} == {clock.bucket(NOW, HOUR)}


def test_a_symbol_without_bars_of_the_last_hour_gets_no_forecast() -> None:
    store_candles()
    trained(state="serving")
    with clock.frozen(MIDNIGHT + timedelta(days=10)):
        assert live.record_forecasts() == {"models": 1, "forecasts": 0, "unusable": 0}


def test_a_broken_model_stops_no_other() -> None:
    store_candles()
    broken = trained(state="serving")
    TrainedModel.objects.filter(pk=broken.pk).update(parameters={})
    shadow = trained(state="shadow", kind="ewma", horizon_hours=24)
    assert live.record_forecasts() == {"models": 2, "forecasts": 2, "unusable": 2}
    assert set(Forecast.objects.values_list("model_id", flat=True)) == {shadow.pk}


def test_a_model_with_a_damaged_tree_stops_no_other() -> None:
    store_candles()
    cycle = {
        "features": ["log_volatility_1h"],
        "trees": [[[0, -1e9, 0, 0], [-1, 1.0, 0, 0]]],
        "z": [-1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64],
    }
    trained(state="serving", kind="lightgbm", parameters=cycle)
    shadow = trained(state="shadow", kind="ewma", horizon_hours=24)
    assert live.record_forecasts() == {"models": 2, "forecasts": 2, "unusable": 2}
    assert set(Forecast.objects.values_list("model_id", flat=True)) == {shadow.pk}


def test_a_forecast_that_is_not_a_number_is_not_stored() -> None:
    store_candles()
    row = trained(state="serving")
    parameters = row.parameters
    parameters["coefficients"]["constant"] = 1e6  # its exponential is infinite
    row.parameters = parameters
    row.save()
    with np.errstate(over="ignore", invalid="ignore"):
        assert live.record_forecasts() == {"models": 1, "forecasts": 0, "unusable": 2}
        assert live.health_problem(row, live.current()) == "no usable forecast of BTC, ETH"
    assert forecasts.volatility("BTC", 6, NOW) == NoForecast.NO_FORECAST


def test_a_forecast_is_used_while_it_is_fresh_and_only_once_it_was_made() -> None:
    assert forecasts.volatility("BTC", 6, NOW) == NoForecast.NO_MODEL
    store_candles()
    row = trained(state="serving")
    assert forecasts.volatility("BTC", 6, NOW) == NoForecast.NO_FORECAST
    live.record_forecasts()
    found = forecasts.volatility("BTC", 6, NOW)
    assert isinstance(found, Volatility)
    assert (found.model, found.at) == (row.pk, clock.bucket(NOW, HOUR))
    assert forecasts.volatility("BTC", 6, NOW - timedelta(seconds=1)) == NoForecast.NO_FORECAST
    stale = timedelta(minutes=policy().serve.stale_minutes)
    assert isinstance(forecasts.volatility("BTC", 6, found.at + stale), Volatility)
    late = found.at + stale + timedelta(seconds=1)
    assert forecasts.volatility("BTC", 6, late) == NoForecast.STALE
    Forecast.objects.update(sigma=0)
    assert forecasts.volatility("BTC", 6, NOW) == NoForecast.UNUSABLE


def test_each_symbol_has_its_own_forecast_of_direction_or_the_reason_against_it() -> None:
    end = clock.bucket(NOW, HOUR)
    assert forecasts.directions(["BTC"], 24, NOW) == {"BTC": NoForecast.NO_MODEL}
    trained(state="serving", horizon_hours=24)
    assert forecasts.directions(["BTC"], 24, NOW) == {"BTC": NoForecast.NO_MODEL}, "of volatility"
    row = trained(state="serving", horizon_hours=24, purpose="direction", kind="ridge")
    stale = timedelta(minutes=policy().serve.stale_minutes, hours=1)
    for symbol, at, mean in (
        ("BTC", end - HOUR, -0.5), ("BTC", end, 0.01), ("ETH", end - stale, 0.01), ("SOL", end, float("nan")),
    ):  # fmt: skip
        Forecast.objects.create(
            model=row, symbol=symbol, at=at, made_at=at, mean=mean, sigma=0.03, quantiles=[]
        )
    assert forecasts.directions(["BTC", "ETH", "SOL", "XRP"], 24, NOW) == {
        "BTC": Direction(0.01, 0.03, 24, row.pk, end),
        "ETH": NoForecast.STALE,
        "SOL": NoForecast.UNUSABLE,
        "XRP": NoForecast.NO_FORECAST,
    }


def test_forecasts_past_their_retention_are_deleted() -> None:
    row = trained(state="serving")
    for days in (policy().serve.keep_days - 1, policy().serve.keep_days + 1):
        at = NOW - timedelta(days=days)
        Forecast.objects.create(model=row, symbol="BTC", at=at, sigma=1, mean=0, quantiles=[], made_at=at)
    assert forecasts.tidy() == 1
    assert Forecast.objects.get().at == NOW - timedelta(days=policy().serve.keep_days - 1)


def stored_forecasts(factor: float, days: int) -> live.LiveSkill:
    """The live skill of a model whose volatility is `factor` times EWMA's, hourly for so many days."""
    row = trained(state=ModelState.SERVING)
    z = np.array(row.parameters["z"])
    since = NOW - timedelta(days=days + 10)
    made = []
    for hours in sources.stored(["BTC", "ETH"], since, NOW):
        sigma = features.ewma(hours) * np.sqrt(row.horizon_hours) * factor
        for place in range(len(hours)):
            if np.isfinite(sigma[place]) and hours.end(place) >= NOW - timedelta(days=days):
                quantiles = [float(one) for one in sigma[place] * z]
                made.append(Forecast(model=row, symbol=hours.symbol, at=hours.end(place), sigma=sigma[place], mean=0,
                                     quantiles=quantiles, made_at=hours.end(place)))  # fmt: skip
    Forecast.objects.bulk_create(made)
    found = live.live_skill(row)
    assert found is not None
    return found


def test_live_skill_is_lost_where_forecasts_are_worse_than_ewma() -> None:
    store_candles()
    found = stored_forecasts(5.0, 20)
    assert found.high_pct < 0
    assert found.lost
    assert found.forecasts > 800


def test_live_skill_that_is_equal_is_not_lost() -> None:
    store_candles()
    found = stored_forecasts(1.0, 20)
    assert (found.skill_pct, found.low_pct, found.high_pct) == pytest.approx((0, 0, 0), abs=1e-9)
    assert not found.lost


def test_few_days_of_forecasts_conclude_nothing() -> None:
    store_candles()
    found = stored_forecasts(5.0, 10)
    assert found.high_pct < 0
    assert not found.lost
    assert live.live_skill(trained(horizon_hours=24)) is None
