"""Funding rates of Hyperliquid's perpetual futures (`POST /info` with the type metaAndAssetCtxs; no key)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from maxxit.market.feeds import wire
from maxxit.market.feeds.base import FUNDING_HOURS


class HyperliquidFunding:
    """`coins`: symbol -> Hyperliquid's name of the perpetual future."""

    def __init__(self, *, name: str, base_url: str, coins: Mapping[str, str], timeout: float = 10.0) -> None:
        self.name = name
        self.coins = dict(coins)
        self.http = wire.api_client(name, base_url, timeout=float(timeout))

    def funding_rates(self, symbols: Sequence[str]) -> dict[str, Decimal]:
        """Return the present rates; those of coins that are not listed are left out."""
        answer = wire.ask(self.http, "POST", "info", json={"type": "metaAndAssetCtxs"})
        with wire.shaped(self.name):
            meta, contexts = answer
            listed = dict(zip((row["name"] for row in meta["universe"]), contexts, strict=True))
            wanted = {symbol: self.coins[symbol] for symbol in symbols if symbol in self.coins}
            return {symbol: _rate(listed[coin]) for symbol, coin in wanted.items() if coin in listed}


def _rate(context: Mapping[str, Any]) -> Decimal:
    """Hyperliquid states the rate of one hour as a fraction."""
    rate = wire.number(context["funding"])
    if not rate.is_finite():
        raise ValueError(f"no funding rate: {context['funding']!r}")
    return rate * FUNDING_HOURS * 100
