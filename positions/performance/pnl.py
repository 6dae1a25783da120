"""Compute PnL, conditional value at risk and max drawdown. Pure functions; amounts in USDC."""

import math
from collections.abc import Sequence
from decimal import Decimal

from maxxit.core.money import ZERO
from maxxit.core.terms import SIGN


def gross(side: str, cash_in: Decimal, cash_out: Decimal) -> Decimal:
    """Return the PnL before fees. `cash_in` was paid (long) or received (short) at entry, `cash_out` at exit."""
    return SIGN[side] * (cash_out - cash_in)


MIN_SAMPLES = 20
"""With fewer results, 5 % of them is less than one result."""


def cvar_95(results: Sequence[Decimal]) -> Decimal | None:
    """Return the historical conditional value at risk at 95 %: the mean of the worst 5 % of `results`, as a loss.

    In the unit of `results`, positive for a loss; None with fewer than `MIN_SAMPLES`. Expected shortfall after
    Rockafellar and Uryasev (2000), with the worst n/20 counted in full and the last of them in part.
    """
    if len(results) < MIN_SAMPLES:
        return None
    tail = Decimal(len(results)) / 20
    worst = sorted(results)[: math.ceil(tail)]
    part = tail - (len(worst) - 1)
    return -(sum(worst[:-1], ZERO) + worst[-1] * part) / tail


def max_drawdown(equity: Sequence[Decimal]) -> Decimal:
    """Return the max drawdown of the curve in its own unit; zero for a curve that never falls."""
    peak, deepest = None, ZERO
    for value in equity:
        peak = value if peak is None else max(peak, value)
        deepest = max(deepest, peak - value)
    return deepest
