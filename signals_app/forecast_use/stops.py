"""The stop loss of a signal from a volatility forecast, for agents with the exit preset `volatility`."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import structlog

from agents.models import Agent
from maxxit.core.terms import ExitPreset
from maxxit.learning import forecasts
from maxxit.learning.reasons import NoForecast
from signals_app.policy import VolatilityStop
from signals_app.score import Proposed, bound_levels

log = structlog.get_logger(__name__)

PLACES = Decimal("0.000001")
"""Of the column `stop_loss_pct`."""


def by_volatility(
    agent: Agent, token: str, proposed: Proposed, rules: VolatilityStop, at: datetime
) -> tuple[Proposed, dict[str, str | int]]:
    """Return the trade with its stop loss by the volatility forecast known at `at`, and what the stop is based on.

    The stop is held within the bounds of every stop, and the target stays at least twice as far. Agents with another
    exit preset keep their trade, with an empty basis. Without a usable forecast the fixed percent stays: the reason is
    logged and stored with the signal.
    """
    if agent.exit_preset != ExitPreset.VOLATILITY:
        return proposed, {}
    found = forecasts.volatility(token, rules.horizon_hours, at)
    if isinstance(found, NoForecast):
        log.warning(
            "stop_without_forecast",
            agent=agent.name,
            token=token,
            reason=found.value,
            stop_loss_pct=f"{proposed.stop_loss_pct:f}",
        )
        return proposed, {"basis": "fixed", "reason": found.value}
    wanted = (Decimal(str(found.sigma)) * 100 * rules.multiple).quantize(PLACES)
    stop, take = bound_levels(wanted, proposed.take_profit_pct, proposed.leverage)
    basis: dict[str, str | int] = {
        "basis": "forecast",
        "model": found.model,
        "at": found.at.isoformat(),
        "sigma_pct": f"{found.sigma * 100:.4f}",
        "wanted_pct": f"{wanted:f}",
    }
    return replace(proposed, stop_loss_pct=stop, take_profit_pct=take), basis
