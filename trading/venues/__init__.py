"""Registry of venue adapters, by the name that `adapter` has in `config/venues.yaml`."""

from maxxit.core.registry import Registry
from trading.venues.base import Venue

VENUES: Registry[Venue] = Registry(
    "venue",
    {
        "alpaca": "trading.venues.alpaca.venue.AlpacaVenue",
        "paper": "trading.venues.paper.PaperVenue",
        "safe": "trading.venues.safe.venue.SafeVenue",
    },
)
