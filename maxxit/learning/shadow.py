"""What a direction model in shadow would have traded, from its stored forecasts and the candles since."""

from dataclasses import dataclass
from datetime import UTC, timedelta

from maxxit.core import clock
from maxxit.learning.gates import COST
from maxxit.learning.models import Forecast, TrainedModel
from maxxit.market import candles

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ShadowResult:
    """What a model did with the forecasts that it made in shadow, each before its horizon ended."""

    days: int
    """UTC days on which it made a forecast whose horizon is over."""
    trades: int
    net_return: float
    """Sum of the simple returns of the trades after costs, each with the same stake; a fraction of it."""


def results(row: TrainedModel) -> ShadowResult:
    """Return what the forecasts since the shadow began would have earned, where their horizon is over.

    A trade is entered at the price when the forecast was made and leaves when its horizon ends. One forecast a horizon
    and symbol is traded, so that trades do not overlap.
    """
    horizon, now = timedelta(hours=row.horizon_hours), clock.now()
    threshold = float(row.metrics.get("threshold", 0.0))
    if row.shadow_at is None:
        return ShadowResult(0, 0, 0.0)
    rows = Forecast.objects.filter(model=row, made_at__gte=row.shadow_at, at__lte=now - horizon)
    made = [one for one in rows.order_by("at", "symbol") if one.at <= one.made_at < one.at + horizon]
    traded = [
        one
        for one in made
        if one.sigma > 0
        and abs(one.mean) > threshold * one.sigma
        and int(one.at.timestamp()) // 3600 % row.horizon_hours == 0
    ]
    entries = candles.closes([(one.symbol, one.made_at) for one in traded])
    exits = candles.closes([(one.symbol, one.at + horizon) for one in traded], within=HOUR)
    paid = [
        (1 if one.mean > 0 else -1) * float(after / before - 1) - COST
        for one, before, after in zip(traded, entries, exits, strict=True)
        if before and after
    ]
    days = {one.made_at.astimezone(UTC).date() for one in made}
    return ShadowResult(len(days), len(paid), sum(paid))
