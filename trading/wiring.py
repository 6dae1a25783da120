"""From config to live venues: the only file that opens adapters."""

from functools import cache

from maxxit.market.venues import venue_policy
from trading.venues import VENUES
from trading.venues.base import Venue


@cache
def venue(name: str) -> Venue:
    """The live venue. Raises `Misconfigured` for an unknown name or a wrong option."""
    stanza = venue_policy(name)
    made = VENUES.open(
        stanza.adapter, shorts=stanza.shorts, max_leverage=stanza.max_leverage, **stanza.options
    )
    made.name = name
    return made
