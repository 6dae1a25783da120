"""Read stored forecasts, where decisions use them. Imports no numpy."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from maxxit.core import clock
from maxxit.learning import registry
from maxxit.learning.models import Forecast
from maxxit.learning.policy import policy


class NoForecast(StrEnum):
    """Why there is no usable forecast."""

    NO_MODEL = "no_model"
    NO_FORECAST = "no_forecast"
    STALE = "stale_forecast"
    UNUSABLE = "unusable_forecast"


@dataclass(frozen=True, slots=True)
class Volatility:
    """A usable forecast of the volatility of one symbol."""

    sigma: float
    """Standard deviation of the return over the horizon, a fraction."""
    horizon_hours: int
    model: int
    at: datetime
    """When its newest hour ended, UTC."""


def volatility(symbol: str, horizon: int, at: datetime) -> Volatility | NoForecast:
    """Return the newest forecast of the model that serves, as known at `at` (UTC), or why there is none."""
    row = registry.serving("volatility", horizon)
    if row is None:
        return NoForecast.NO_MODEL
    known = Forecast.objects.filter(model=row, symbol=symbol, at__lte=at, made_at__lte=at)
    found = known.order_by("-at").first()
    if found is None:
        return NoForecast.NO_FORECAST
    if at - found.at > timedelta(minutes=policy().serve.stale_minutes):
        return NoForecast.STALE
    if not (math.isfinite(found.sigma) and found.sigma > 0):
        return NoForecast.UNUSABLE
    return Volatility(found.sigma, horizon, row.pk, found.at)


def tidy() -> int:
    """Delete forecasts past their retention (`keep_days`); return how many."""
    before = clock.now() - timedelta(days=policy().serve.keep_days)
    count, _ = Forecast.objects.filter(made_at__lt=before).delete()
    return count
