"""The promises of each of the product's venues, for T0: what its own adapter says, and how its orders end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from trading.venues.base import Capabilities, Venue

IMMEDIATE = {"at once": 0.6, "a part, then canceled": 0.3, "refused later": 0.1}
"""Of immediate-or-cancel orders."""
RESTING = {
    "at once": 0.4,
    "in parts": 0.2,
    "slowly": 0.1,
    "later": 0.1,
    "a part, then canceled": 0.1,
    "refused later": 0.1,
}
MINED = {"later": 0.8, "refused later": 0.2}
"""Of a transaction: all in one final block, or reverted."""


@dataclass(frozen=True, slots=True)
class Semantics:
    """What a venue promises, and how often its orders end how."""

    capabilities: Capabilities
    plans: Mapping[str, float]


def _paper() -> Venue:
    from trading.venues.paper import PaperVenue

    return PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=5_000)


def _safe() -> Venue:
    from trading.venues.safe.venue import SafeVenue

    return SafeVenue(chain="local", slippage_bps=50)


def _alpaca() -> Venue:
    from trading.venues.alpaca.venue import AlpacaVenue

    return AlpacaVenue()


def _coinbase() -> Venue:
    from trading.venues.coinbase.venue import CoinbaseVenue

    return CoinbaseVenue()


def _hyperliquid() -> Venue:
    from trading.venues.hyperliquid.venue import HyperliquidVenue

    markets = {"ETH": {"asset": 1, "sz_decimals": 4}}
    return HyperliquidVenue(
        network="testnet", markets=markets, daily_notional_usd=100_000, max_leverage=Decimal(5)
    )


VENUES: Mapping[str, tuple[Callable[[], Venue], Mapping[str, float]]] = {
    "paper": (_paper, RESTING),
    "safe": (_safe, MINED),
    "alpaca": (_alpaca, RESTING),
    "coinbase": (_coinbase, IMMEDIATE),
    "hyperliquid": (_hyperliquid, IMMEDIATE),
}


def of(name: str) -> Semantics:
    """Return the semantics of a venue of the product."""
    adapter, plans = VENUES[name]
    return Semantics(adapter().capabilities, plans)
