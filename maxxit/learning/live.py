"""Live forecasts: make and store those of the newest hour, and measure how those of the past turned out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import structlog

from maxxit.core import clock
from maxxit.learning import features, sources, statistics
from maxxit.learning.forecasters import FORECASTERS, Rows
from maxxit.learning.hours import HOUR_SECONDS, Hours
from maxxit.learning.models import READING, Forecast, TrainedModel
from maxxit.learning.states import ModelState
from maxxit.pipeline.interrupts import ends_the_pass

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)
READ_HOURS = features.WARM_UP + features.DAY
"""Hours that a forecast reads: the longest window, and a day for gaps."""
LIVE_DAYS = 30
"""Forecasts of this many days are measured."""
LEAST_LIVE_DAYS = 14
"""With forecasts of fewer days nothing is concluded."""
SEED = 1


@dataclass(frozen=True)
class Now:
    """The forecast of one symbol from its newest hour."""

    symbol: str
    sigma: float
    mean: float
    quantiles: list[float]

    @property
    def usable(self) -> bool:
        """Whether every number is finite and the volatility positive."""
        return self.sigma > 0 and bool(np.isfinite([self.sigma, self.mean, *self.quantiles]).all())


def forecast(row: TrainedModel, hours: Hours) -> Now:
    """Return a model's forecast from the newest of `hours`; its values are NaN where a feature is not known."""
    columns = features.table(hours.last(READ_HOURS))
    ewma = features.ewma(hours.last(READ_HOURS))
    unknown = np.full(1, np.nan)
    matrix = np.column_stack(list(columns.values()))
    newest = Rows(
        tuple(columns), matrix[-1:], ewma[-1:], row.horizon_hours, unknown, unknown,
        matrix, np.array([len(matrix) - 1]),
    )  # fmt: skip
    made = FORECASTERS.open(row.kind).forecast(row.parameters, newest)
    quantiles = [float(one) for one in made.quantiles[0]]
    return Now(hours.symbol, float(made.sigma[0]), float(made.mean[0]), quantiles)


def current() -> list[Hours]:
    """Return the newest hours of each symbol whose last hour is over and complete."""
    now = clock.now()
    read = sources.stored(sources.tradable(), now - READ_HOURS * HOUR, now)
    end = clock.bucket(now, HOUR)
    return [hours for hours in read if hours.end(len(hours) - 1) == end]


def health_problem(row: TrainedModel, series: Sequence[Hours]) -> str:
    """Return why a model cannot forecast from the current candles; empty where it can."""
    if not series:
        return "no symbol has candles of the last hour"
    bad = [hours.symbol for hours in series if not forecast(row, hours).usable]
    return f"no usable forecast of {', '.join(bad)}" if len(bad) == len(series) else ""


def record_forecasts() -> dict[str, int]:
    """Store the forecasts of the newest hour of every model that serves or rests in shadow; return the counts.

    What is stored already is not computed again. A symbol without a usable forecast gets none; a model or symbol that
    fails stops no other.
    """
    states = (ModelState.SHADOW, ModelState.APPROVED, ModelState.SERVING)
    end = clock.bucket(clock.now(), HOUR)
    rows = list(TrainedModel.objects.filter(state__in=states).exclude(purpose=READING).order_by("pk"))
    stored = set(Forecast.objects.filter(model__in=rows, at=end).values_list("model_id", "symbol"))
    if not rows or len(stored) == len(rows) * len(sources.tradable()):
        return {"models": len(rows), "forecasts": 0, "unusable": 0}
    made, unusable = [], 0
    series = current()
    for row in rows:
        for hours in series:
            if (row.pk, hours.symbol) in stored:
                continue
            found = _forecast_alone(row, hours)
            if found is None:
                unusable += 1
                continue
            made.append(
                Forecast(
                    model=row, symbol=found.symbol, at=end, sigma=found.sigma, mean=found.mean,
                    quantiles=found.quantiles, made_at=clock.now(),
                )
            )  # fmt: skip
    Forecast.objects.bulk_create(made, ignore_conflicts=True)
    return {"models": len(rows), "forecasts": len(made), "unusable": unusable}


def _forecast_alone(row: TrainedModel, hours: Hours) -> Now | None:
    """Return a usable forecast; None where there is none, or where it failed, which is logged."""
    try:
        found = forecast(row, hours)
    except Exception as error:
        if ends_the_pass(error):
            raise
        log.exception("forecast_failed", model=row.pk, symbol=hours.symbol)
        return None
    return found if found.usable else None


@dataclass(frozen=True)
class LiveSkill:
    """How the stored forecasts of a volatility model turned out, against EWMA volatility at the same hours."""

    forecasts: int
    days: float
    """From the first to the last of them."""
    skill_pct: float
    """Percent by which the pinball loss is below that of EWMA."""
    low_pct: float
    high_pct: float
    """The 95 % interval."""

    @property
    def lost(self) -> bool:
        """Whether the model is worse than EWMA: the whole interval is below 0."""
        return self.days >= LEAST_LIVE_DAYS and self.high_pct < 0


def live_skill(row: TrainedModel) -> LiveSkill | None:
    """Measure the forecasts of the last `LIVE_DAYS` whose horizon is over; None where there is none.

    EWMA volatility takes the model's own quantiles of the standardised return, so that only the volatility differs.
    """
    now, horizon = clock.now(), row.horizon_hours
    since = now - timedelta(days=LIVE_DAYS)
    forecasts = Forecast.objects.filter(model=row, at__gte=since, at__lte=now - horizon * HOUR)
    by_symbol: dict[str, list[Forecast]] = {}
    for one in forecasts.order_by("at", "symbol"):
        by_symbol.setdefault(one.symbol, []).append(one)
    if not by_symbol:
        return None
    ends: list[Any] = []
    losses: list[Any] = []
    others: list[Any] = []
    z = np.array(row.parameters["z"])
    for hours in sources.stored(sorted(by_symbol), since - READ_HOURS * HOUR, now):
        returns, _ = features.target(hours, horizon)
        ewma = features.ewma(hours) * np.sqrt(horizon)
        rows = by_symbol[hours.symbol]
        places = np.array([int(one.at.timestamp()) // HOUR_SECONDS - hours.first - 1 for one in rows])
        known = (places >= 0) & (places < len(hours))
        known &= np.isfinite(np.where(known, (returns + ewma)[np.where(known, places, 0)], np.nan))
        places = places[known]
        quantiles = np.array([one.quantiles for one in rows])[known].reshape(-1, len(statistics.LEVELS))
        ends.append(hours.first + 1 + places)
        losses.append(statistics.pinball(returns[places], quantiles))
        others.append(statistics.pinball(returns[places], ewma[places][:, None] * z))
    at = np.concatenate(ends) if ends else np.array([], dtype=np.int64)
    if not len(at):
        return None
    loss, other = np.concatenate(losses), np.concatenate(others)
    scale = 100 / float(other.mean())
    low, high = statistics.bootstrap(statistics.mean_by(at, other - loss), max(24, 2 * horizon), SEED)
    days = float(at.max() - at.min()) / 24
    return LiveSkill(len(at), days, float((other - loss).mean()) * scale, low * scale, high * scale)
