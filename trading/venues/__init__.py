"""Registry of venue adapters, by the name that `adapter` has in `config/venues.yaml`."""

from typing import TYPE_CHECKING

from maxxit.core.registry import Registry

if TYPE_CHECKING:  # `manage.py up` only looks which venues have an order stream
    from trading.venues.base import Venue

VENUES: "Registry[Venue]" = Registry(
    "venue",
    {
        "alpaca": "trading.venues.alpaca.venue.AlpacaVenue",
        "coinbase": "trading.venues.coinbase.venue.CoinbaseVenue",
        "gmx": "trading.venues.gmx.venue.GmxVenue",
        "hyperliquid": "trading.venues.hyperliquid.venue.HyperliquidVenue",
        "paper": "trading.venues.paper.PaperVenue",
        "safe": "trading.venues.safe.venue.SafeVenue",
    },
)

STREAMED = frozenset({"alpaca", "coinbase"})
"""Adapters whose venues have an order stream (`Venue.order_listener`): `manage.py orderstream` listens to them."""
