"""What the risk score of a signal's entries uses of the market, read when the signal is made and stored with it.

The score itself is computed when an entry is placed (`trading/risk/score.py`).
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from maxxit.core.clock import iso_utc
from maxxit.core.config import load
from maxxit.learning import forecasts
from maxxit.learning.reasons import NoForecast
from maxxit.market import candles
from signals_app.policy import Generate


class _Score(BaseModel):
    """The key `risk_score` of `config/risk.yaml`; it is typed in `trading/risk/policy.py`."""

    model_config = ConfigDict(frozen=True)
    enabled: bool = False
    horizon_hours: int = 24


class _Risk(BaseModel):
    model_config = ConfigDict(frozen=True)
    risk_score: _Score = _Score()


def read(token: str, others: Collection[str], policy: Generate, at: datetime) -> dict[str, Any]:
    """Return the forecast and the correlations of `token` as known at `at` (UTC), as JSON; empty where it is off.

    Args:
        others: the tokens that an account may hold.
    """
    rules = load("risk", _Risk).risk_score
    if not rules.enabled:
        return {}
    found = forecasts.tail(token, rules.horizon_hours, at)
    if isinstance(found, NoForecast):
        forecast: dict[str, Any] = {"reason": found.value}
    else:
        forecast = {name: repr(getattr(found, name)) for name in ("sigma", "q10", "q90")} | {
            "horizon_hours": found.horizon_hours,
            "model": found.model,
            "at": iso_utc(found.at),
        }
    return {"risk_inputs": {"forecast": forecast, "correlations": correlations(token, others, policy, at)}}


def correlations(token: str, others: Collection[str], policy: Generate, at: datetime) -> dict[str, str]:
    """Return token -> correlation of its log returns per bar with those of `token`, four decimals as text.

    Over the bars of the indicators. Tokens with a missing bar, or that did not move, are left out.
    """
    import numpy as np  # takes 0.1 s: imported only where the score is on

    width = timedelta(minutes=policy.bar_minutes)
    read = candles.last_bars(sorted({token, *others}), width=width, count=policy.bars, at=at)
    whole = {symbol: bars for symbol, bars in read.items() if not bars.missing and not bars.last_missing}
    own = whole.pop(token, None)
    if own is None or len(own) < policy.warm_up_bars:
        return {}
    moves = np.diff(np.log(own.close))
    found = {}
    for symbol, bars in sorted(whole.items()):
        if len(bars) != len(own):
            continue
        theirs = np.diff(np.log(bars.close))
        if moves.std() > 0 and theirs.std() > 0:
            found[symbol] = f"{float(np.corrcoef(moves, theirs)[0, 1]):.4f}"
    return found
