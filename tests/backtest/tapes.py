"""A small tape of made-up prices and calls under the present configuration."""

import random
from decimal import Decimal
from typing import Any

from maxxit.core.money import plain
from maxxit.market import quotes
from maxxit.market.bars import Snapshot
from maxxit.market.venues import venue_policy
from maxxit.replay.tape import Tape, TapedAgent, TapedCall, TapedDeployment, TapedPass
from maxxit.replay.taping import instruments
from signals_app.policy import policy as signals_policy
from trading.risk.policy import policy as risk_policy

START = 1_512_086_400
"""2017-12-01 00:00 UTC."""
BAR = 300
FIGURES = Snapshot(
    close=100, rsi=50, macd_histogram=0.1, bollinger_b=0.6, volume_z=0.5, fast_average=101, slow_average=100,
    momentum_pct=1, atr_pct=0.8, volatility_pct=2.0, ewma_pct=2.0,
)  # fmt: skip


def agent(number: int = 1, name: str = "Follower", **changes: Any) -> TapedAgent:
    values: dict[str, Any] = {
        "id": number, "name": name, "venue": "paper", "tokens": ["ETH"],
        "weights": {"tweet": 100, "moving_average": 40, "momentum": 40},
        "min_confidence": "0.4", "sizing_preset": "moderate", "exit_preset": "signal",
        "fees": {"trade_fee": "", "profit_fee": "", "monthly_fee": "", "profit_share": "0.2"},
        "follows": [7],
        "deployments": [TapedDeployment(number * 10, f"paper:{name.lower()}", "10000", {})],
    }  # fmt: skip
    return TapedAgent(**values | changes)


def small_tape(seed: int = 1, days: int = 4, **changes: Any) -> Tape:
    """Return a tape with one agent, a random walk of ETH and a long call before each bucket."""
    chance = random.Random(seed)
    moments = [START + BAR * n for n in range(days * 288 + 1)]
    price, rows = 450.0, []
    for place, at in enumerate(moments):
        price *= 1 + chance.gauss(0, 0.004)
        rows.append([place, plain(Decimal(f"{price:.2f}")), at, True])
    passes, calls = [], []
    for number in range(days * 4):
        at = START + number * 6 * 3600
        calls.append(TapedCall(number + 1, 7, at - 1800, at, at, {"ETH": "long"}, "0.8", None))
        passes.append(TapedPass(at, {"ETH": 0}, {"7": "0.5"} if not number else {}))
    figures = [getattr(FIGURES, name) for name in FIGURES.__slots__]
    values: dict[str, Any] = {
        "start": START, "end": moments[-1], "inputs": {}, "release": "test",
        "risk": risk_policy().model_dump(mode="json"),
        "generate": signals_policy().generate.model_dump(mode="json"),
        "venues": {"paper": venue_policy("paper").model_dump(mode="json")},
        "instruments": instruments(), "max_age_seconds": max(quotes.policy().max_age_seconds, 600),
        "moments": moments, "quotes": {"ETH": rows}, "figures": [figures], "passes": passes, "calls": calls,
        "agents": [agent()],
    }  # fmt: skip
    return Tape(**values | changes)
