"""From config to live venues: the only file that opens adapters."""

from functools import cache

from maxxit.market.venues import VenuePolicy, venue_policy
from trading.chain import chains
from trading.venues import VENUES
from trading.venues.base import Venue

PLAY_MONEY = "play money on the local chain"


@cache
def venue(name: str) -> Venue:
    """The live venue. Raises `Misconfigured` for an unknown name or a wrong option."""
    stanza = venue_policy(name)
    made = VENUES.open(
        stanza.adapter, shorts=stanza.shorts, max_leverage=stanza.max_leverage, **stanza.options
    )
    made.name = name
    return made


def stake(venue: VenuePolicy) -> str:
    """What is at stake at a venue: paper, the local chain's play money, or REAL MONEY."""
    if venue.paper:
        return "paper"
    chain = venue.options.get("chain")
    local = chain is not None and chains.stanza(chain).chain_id == chains.LOCAL_CHAIN_ID
    return PLAY_MONEY if local else "REAL MONEY"
