"""What a volatility target makes of the size of a signal's trades. Pure."""

from decimal import ROUND_DOWN, Decimal

from maxxit.core.clock import iso_utc
from maxxit.core.money import plain
from maxxit.learning.forecasts import Volatility
from maxxit.learning.reasons import NoForecast

FINEST = Decimal("0.000001")
"""Decimals of a scale, and the smallest."""


def by_volatility(target_pct: Decimal, found: Volatility | NoForecast) -> dict[str, str | int]:
    """Return what a volatility target makes of a size: `scale`, a fraction, and what it follows from; as JSON.

    The scale is target / forecast, at most 1, so that a size only ever becomes smaller. Without a usable forecast it is
    1, with the reason.

    Args:
        target_pct: standard deviation of the return over the forecast's horizon, percent; above 0.
    """
    if isinstance(found, NoForecast):
        return {"scale": "1", "target_pct": plain(target_pct), "reason": found.value}
    sigma_pct = Decimal(repr(found.sigma)) * 100
    wanted = target_pct / max(target_pct, sigma_pct)
    scale = max(FINEST, wanted.quantize(FINEST, ROUND_DOWN))
    return {
        "scale": plain(scale),
        "target_pct": plain(target_pct),
        "sigma_pct": f"{sigma_pct:.4f}",
        "horizon_hours": found.horizon_hours,
        "model": found.model,
        "at": iso_utc(found.at),
    }
