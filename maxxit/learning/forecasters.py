"""The forecasters: each fits its parameters to rows of the feature table and forecasts quantiles of the next return.

Parameters are plain numbers in JSON, no pickle. The registry `FORECASTERS` names them; `har` is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maxxit.core.registry import Registry
from maxxit.learning import statistics
from maxxit.learning.hours import Floats


@dataclass(frozen=True)
class Rows:
    """Rows of the feature table of all symbols, with what came after them where it is known."""

    names: tuple[str, ...]
    features: Floats
    """Shape (n, number of features)."""
    ewma: Floats
    """EWMA volatility, a fraction an hour."""
    horizon: int
    """Hours."""
    returns: Floats
    """Log return over the horizon after each row."""
    volatility: Floats
    """Realised volatility over the horizon, a fraction an hour."""
    hours: Floats
    """The feature table of every hour, symbol after symbol; NaN where a feature is unknown."""
    places: NDArray[np.int64]
    """Place of each row in `hours`."""

    def __len__(self) -> int:
        return len(self.features)

    def column(self, name: str) -> Floats:
        """Return one feature of every row."""
        return self.features[:, self.names.index(name)]

    def window(self, name: str, hours: int) -> Floats:
        """Return one feature of the `hours` up to each row, shape (n, hours), the row's own last.

        Before the first row of a symbol lie its `features.WARM_UP` hours, so that no window reaches another symbol.
        """
        places = self.places[:, None] + np.arange(1 - hours, 1)
        window: Floats = self.hours[:, self.names.index(name)][np.maximum(places, 0)]
        return window

    def where(self, chosen: Any) -> "Rows":
        """Return the rows that a mask or index selects."""
        return Rows(
            self.names,
            self.features[chosen],
            self.ewma[chosen],
            self.horizon,
            self.returns[chosen],
            self.volatility[chosen],
            self.hours,
            self.places[chosen],
        )


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of rows: volatility over the whole horizon, and quantiles of the return at `statistics.LEVELS`."""

    sigma: Floats
    """Standard deviation of the return over the horizon, a fraction."""
    mean: Floats
    """Expected return, a fraction; 0 for a volatility model."""
    quantiles: Floats
    """Shape (n, 7)."""


class Forecaster(Protocol):
    """One kind of model."""

    name: str
    purpose: str
    """volatility or direction."""

    def fit(self, rows: Rows) -> dict[str, Any]:
        """Return the parameters, as JSON."""
        ...

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        """Return the forecasts of rows from their features alone."""
        ...


FORECASTERS: Registry[Any] = Registry(
    "forecaster",
    {
        "ewma": "maxxit.learning.forecasters.Ewma",
        "har": "maxxit.learning.forecasters.Har",
        "lightgbm": "maxxit.learning.boosted.Boosted",
        "tft": "maxxit.learning.tft.forecaster.Transformer",
        "ridge": "maxxit.learning.forecasters.Ridge",
        "dqn": "maxxit.learning.rl.forecaster.Dqn",
        "ppo": "maxxit.learning.rl.forecaster.Ppo",
    },
)
DEFAULT = "har"


def scaled(sigma: Floats, mean: Floats, z: Sequence[float]) -> Forecasts:
    """Return the forecasts of a mean and a volatility with quantiles `z` of the standardised return."""
    return Forecasts(sigma, mean, mean[:, None] + sigma[:, None] * np.array(z))


class Ewma:
    """EWMA volatility times the empirical quantiles of the training rows: the naive baseline."""

    name, purpose = "ewma", "volatility"

    def fit(self, rows: Rows) -> dict[str, Any]:
        sigma = rows.ewma * np.sqrt(rows.horizon)
        return {"z": statistics.empirical(rows.returns / sigma, symmetric=False)}

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        return scaled(rows.ewma * np.sqrt(rows.horizon), np.zeros(len(rows)), parameters["z"])


class Har:
    """Heterogeneous autoregression of log realised volatility by least squares, times symmetric quantiles.

    Corsi, A Simple Approximate Long-Memory Model of Realized Volatility, 2009.
    """

    name, purpose = "har", "volatility"
    TERMS = (
        *("log_volatility_1h", "log_volatility_6h", "log_volatility_24h", "log_volatility_168h"),
        *("log_volatility_1d_ago", "sin_day", "cos_day", "sin_week", "cos_week"),
    )

    def fit(self, rows: Rows) -> dict[str, Any]:
        terms = self._terms(rows)
        coefficients, *_ = np.linalg.lstsq(terms, np.log(rows.volatility), rcond=None)
        sigma = np.exp(terms @ coefficients) * np.sqrt(rows.horizon)
        return {
            "coefficients": dict(zip(("constant", *self.TERMS), map(float, coefficients), strict=True)),
            "z": statistics.empirical(rows.returns / sigma, symmetric=True),
        }

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        coefficients = np.array([parameters["coefficients"][name] for name in ("constant", *self.TERMS)])
        sigma = np.exp(self._terms(rows) @ coefficients) * np.sqrt(rows.horizon)
        return scaled(sigma, np.zeros(len(rows)), parameters["z"])

    def _terms(self, rows: Rows) -> Floats:
        return np.column_stack([np.ones(len(rows)), *(rows.column(name) for name in self.TERMS)])


class Ridge:
    """A direction model: ridge regression of the return in units of the volatility that HAR forecasts, on all features.

    The features are standardised by the training rows; the volatility that scales the target is not.
    """

    name, purpose = "ridge", "direction"
    PENALTY = 0.3
    """Of the number of rows: it shrinks coefficients that few rows support."""
    FARTHEST = 4.0
    """Standard deviations at which a feature is clipped."""

    def fit(self, rows: Rows) -> dict[str, Any]:
        har = Har().fit(rows)
        sigma = Har().forecast(har, rows).sigma
        mean, deviation = rows.features.mean(axis=0), rows.features.std(axis=0)
        deviation = np.where(deviation > 1e-12, deviation, np.inf)
        x = self._standard(rows, mean, deviation)
        y = np.clip(rows.returns / sigma, -self.FARTHEST, self.FARTHEST)
        penalty = self.PENALTY * len(rows) * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean()))
        finite = np.where(np.isfinite(deviation), deviation, 0.0)
        fitted = (x @ weights) * sigma
        return {
            "har": har,
            "features": list(rows.names),
            "mean": [float(one) for one in mean],
            "deviation": [float(one) for one in finite],
            "weights": dict(zip(rows.names, map(float, weights), strict=True)),
            "z": statistics.empirical((rows.returns - fitted) / sigma, symmetric=True),
        }

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        sigma = Har().forecast(parameters["har"], rows).sigma
        deviation = np.array(parameters["deviation"])
        x = self._standard(rows, np.array(parameters["mean"]), np.where(deviation > 0, deviation, np.inf))
        weights = np.array([parameters["weights"][name] for name in rows.names])
        return scaled(sigma, (x @ weights) * sigma, parameters["z"])

    def _standard(self, rows: Rows, mean: Floats, deviation: Floats) -> Floats:
        return np.clip((rows.features - mean) / deviation, -self.FARTHEST, self.FARTHEST)
