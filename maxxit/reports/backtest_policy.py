"""Typed settings of `config/backtests.yaml`."""

from functools import cache

from maxxit.core.config import Count, Policy, load


class BacktestPolicy(Policy):
    """How long stored runs are kept, and how much of each."""

    keep_days: Count
    keep_runs: Count
    keep_trades: Count
    """Closed positions of one run, the first in time."""
    keep_settings: Count
    """Tried settings of one sweep, the best."""


@cache
def policy() -> BacktestPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("backtests", BacktestPolicy)
