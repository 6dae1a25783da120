"""Random histories of accounts, for the ordinary tests and for the comparison with libraries in `make conformance`."""

import random
from dataclasses import dataclass, field

from positions.performance.returns import DAY

UNIT = 1_000_000
"""USDC base units of 1 USD."""
START = 1_704_067_200
"""2024-01-01 00:00 UTC."""


@dataclass
class History:
    """One account at each UTC midnight: equity before the flow, then the flow; and its daily returns."""

    at: list[int] = field(default_factory=list)
    equity: list[int] = field(default_factory=list)
    flow: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)

    @property
    def columns(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Arguments of `returns.curve`."""
        return self.at, [1] * len(self.at), self.equity, self.flow


def random_history(seed: int) -> History:
    """Return 40 to 400 days of an account with gains, losses, deposits and withdrawals."""
    source = random.Random(seed)
    days, drift, spread = source.randint(40, 400), source.uniform(-0.002, 0.003), source.uniform(0.002, 0.05)
    history, held = History([START], [0], [source.randint(100, 50_000) * UNIT]), 0
    held = history.flow[0]
    for day in range(1, days + 1):
        worth = round(held * (1 + max(source.gauss(drift, spread), -0.5)))
        paid = source.choice((0, 0, 0, 0, 0, 0, 0, 1, 1, -1)) * round(worth * source.uniform(0.01, 0.6))
        history.at.append(START + day * DAY)
        history.equity.append(worth)
        history.flow.append(paid)
        history.returns.append(worth / held - 1)
        held = worth + paid
    return history
