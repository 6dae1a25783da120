"""Candles of a simulated market in the database, and models of it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from maxxit.learning import worlds
from maxxit.learning.gates import Check, Verdict
from maxxit.learning.models import TrainedModel
from maxxit.market import candles
from maxxit.market.feeds.bars import Bar

SYMBOLS = ("BTC", "ETH")
DAYS = 40
MIDNIGHT = datetime.fromtimestamp((worlds.FIRST + DAYS * 24) // 24 * 24 * 3600, UTC)
"""The midnight up to which the candles reach; they go on for some hours after it."""
PASSED = Verdict((Check("purpose", "volatility", "volatility", True),))


def store_candles(seed: int = 5, days: int = DAYS + 2, symbols: tuple[str, ...] = SYMBOLS) -> None:
    """Store the five-minute bars of `symbols`, made of a world's hours."""
    for symbol, hours in zip(symbols, worlds.world(seed, days), strict=False):
        random = np.random.default_rng(1)
        steps = random.standard_normal((len(hours), 12)) * np.sqrt(hours.variance / 12)[:, None]
        begins = datetime.fromtimestamp(hours.first * 3600, UTC)
        close = [Decimal(f"{one:.6f}") for one in 100 * np.exp(np.cumsum(steps.ravel()))]
        bars = (
            Bar(begins + number * timedelta(minutes=5), one, one, one, one, Decimal(1))
            for number, one in enumerate(close)
        )
        candles.store(symbol, bars)


def trained(**fields: Any) -> TrainedModel:
    """Return a stored volatility model with the parameters of a plausible `har`."""
    from tests.learning.test_gates import VOLATILITY

    terms = ("1h", "6h", "24h", "168h")
    coefficients = {"constant": 0.0} | {f"log_volatility_{span}": 0.25 for span in terms}
    coefficients |= dict.fromkeys(
        ("log_volatility_1d_ago", "sin_day", "cos_day", "sin_week", "cos_week"), 0.0
    )
    values: dict[str, Any] = {
        "kind": "har", "purpose": "volatility", "horizon_hours": 6, "symbols": list(SYMBOLS),
        "data_from": MIDNIGHT - timedelta(days=60), "data_to": MIDNIGHT - timedelta(days=20),
        "data_sha256": "0" * 64, "release": "r", "seed": 1, "tried": 1, "metrics": VOLATILITY,
        "parameters": {"coefficients": coefficients, "z": [-1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64]},
        "created_at": MIDNIGHT,
    }  # fmt: skip
    return TrainedModel.objects.create(**values | fields)
