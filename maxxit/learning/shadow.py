"""What a direction model in shadow would have traded, from its stored forecasts and the candles since."""

from datetime import timedelta

from maxxit.core import clock
from maxxit.learning.evaluate import COST
from maxxit.learning.models import Forecast, TrainedModel
from maxxit.market import candles

HOUR = timedelta(hours=1)


def results(row: TrainedModel) -> tuple[int, float]:
    """Return the number of trades since the shadow began whose horizon is over, and their summed return after costs.

    One forecast a horizon and symbol counts, so that trades do not overlap.
    """
    horizon, now = timedelta(hours=row.horizon_hours), clock.now()
    threshold = float(row.metrics.get("threshold", 0.0))
    rows = (
        Forecast.objects.filter(model=row, at__gte=row.shadow_at)
        if row.shadow_at
        else Forecast.objects.none()
    )
    traded = [
        one
        for one in rows.order_by("at", "symbol")
        if one.sigma > 0
        and one.at + horizon <= now
        and abs(one.mean) > threshold * one.sigma
        and int(one.at.timestamp()) // 3600 % row.horizon_hours == 0
    ]
    entries = candles.closes([(one.symbol, one.at) for one in traded])
    exits = candles.closes([(one.symbol, one.at + horizon) for one in traded], within=HOUR)
    paid = [
        (1 if one.mean > 0 else -1) * float(after / before - 1) - COST
        for one, before, after in zip(traded, entries, exits, strict=True)
        if before and after
    ]
    return len(paid), sum(paid)
