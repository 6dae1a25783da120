"""The venues by the name that `config/venues.yaml` uses as adapter."""

from maxxit.core.registry import Registry
from trading.venues.base import Venue

VENUES: Registry[Venue] = Registry(
    "venue",
    {
        "paper": "trading.venues.paper.PaperVenue",
        "safe": "trading.venues.safe.venue.SafeVenue",
    },
)
