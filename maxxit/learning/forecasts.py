"""Read stored forecasts, where decisions use them. Imports no numpy."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from maxxit.core import clock
from maxxit.learning import registry
from maxxit.learning.models import Forecast
from maxxit.learning.policy import policy
from maxxit.learning.reasons import NoForecast


@dataclass(frozen=True, slots=True)
class Volatility:
    """A usable forecast of the volatility of one symbol."""

    sigma: float
    """Standard deviation of the return over the horizon, a fraction."""
    horizon_hours: int
    model: int
    at: datetime
    """When its newest hour ended, UTC."""


@dataclass(frozen=True, slots=True)
class Direction:
    """A usable forecast of the return of one symbol."""

    mean: float
    """Expected return over the horizon, a fraction."""
    sigma: float
    """Standard deviation of that return, a fraction."""
    horizon_hours: int
    model: int
    at: datetime
    """When its newest hour ended, UTC."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A usable forecast of the spread of the return of one symbol."""

    sigma: float
    """Standard deviation of the return over the horizon, a fraction."""
    q10: float
    """10 % quantile of the return."""
    q90: float
    """90 % quantile."""
    horizon_hours: int
    model: int
    at: datetime
    """When its newest hour ended, UTC."""


Q10, Q90 = 1, 5
"""Places of the quantiles in `Forecast.quantiles` (`maxxit.learning.statistics.LEVELS`)."""


def tail(symbol: str, horizon: int, at: datetime) -> Tail | NoForecast:
    """Return the newest forecast of the volatility model that serves with its quantiles, or why there is none."""
    found = _newest("volatility", [symbol], horizon, at)[symbol]
    if isinstance(found, NoForecast):
        return found
    quantiles = found.quantiles
    if len(quantiles) <= Q90 or not math.isfinite(quantiles[Q10] + quantiles[Q90]):
        return NoForecast.UNUSABLE
    return Tail(found.sigma, quantiles[Q10], quantiles[Q90], horizon, found.model_id, found.at)


def volatility(symbol: str, horizon: int, at: datetime) -> Volatility | NoForecast:
    """Return the newest forecast of the model that serves, as known at `at` (UTC), or why there is none."""
    found = _newest("volatility", [symbol], horizon, at)[symbol]
    if isinstance(found, NoForecast):
        return found
    return Volatility(found.sigma, horizon, found.model_id, found.at)


def directions(symbols: Collection[str], horizon: int, at: datetime) -> dict[str, Direction | NoForecast]:
    """Return the newest forecast of each symbol by the direction model that serves, or why there is none.

    Args:
        horizon: of the model, hours.
        at: UTC; only what was known then counts.
    """
    found = _newest("direction", symbols, horizon, at)
    return {
        symbol: one
        if isinstance(one, NoForecast)
        else Direction(one.mean, one.sigma, horizon, one.model_id, one.at)
        for symbol, one in found.items()
    }


def _newest(
    purpose: str, symbols: Collection[str], horizon: int, at: datetime
) -> dict[str, Forecast | NoForecast]:
    row = registry.serving(purpose, horizon)
    if row is None:
        return dict.fromkeys(symbols, NoForecast.NO_MODEL)
    known = Forecast.objects.filter(model=row, symbol__in=list(symbols), at__lte=at, made_at__lte=at)
    newest = {one.symbol: one for one in known.order_by("symbol", "-at").distinct("symbol")}
    return {symbol: _usable(newest.get(symbol), at) for symbol in symbols}


def _usable(found: Forecast | None, at: datetime) -> Forecast | NoForecast:
    if found is None:
        return NoForecast.NO_FORECAST
    if at - found.at > timedelta(minutes=policy().serve.stale_minutes):
        return NoForecast.STALE
    if not (math.isfinite(found.sigma) and found.sigma > 0 and math.isfinite(found.mean)):
        return NoForecast.UNUSABLE
    return found


def tidy() -> int:
    """Delete forecasts past their retention (`keep_days`); return how many."""
    before = clock.now() - timedelta(days=policy().serve.keep_days)
    count, _ = Forecast.objects.filter(made_at__lt=before).delete()
    return count
