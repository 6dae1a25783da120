"""Create the venue adapters that config/venues.yaml names. No other module instantiates one."""

from functools import cache

import structlog

from maxxit.market.venues import VenuePolicy, venue_policy
from trading import passes
from trading.chain import chains
from trading.venues import VENUES
from trading.venues.base import Venue

log = structlog.get_logger(__name__)
PLAY_MONEY = "play money on the local chain"


@cache
def venue(name: str) -> Venue:
    """Return the venue of this name, one instance per process.

    Raises `Misconfigured` for an unknown name or an invalid option.
    """
    stanza = venue_policy(name)
    adapter = VENUES.open(
        stanza.adapter, shorts=stanza.shorts, max_leverage=stanza.max_leverage, **stanza.options
    )
    adapter.name = name
    return adapter


def batch_size(name: str) -> int:
    """Return how many orders of a venue are placed, or settled, together.

    One where the venue cannot be opened: the error is counted when its orders are processed, and stops no other venue.
    """
    try:
        return min(passes.policy().batch, venue(name).capabilities.batch)
    except Exception as error:
        log.error("venue_not_opened", venue=name, error=str(error))
        return 1


def money_at_stake(venue: VenuePolicy) -> str:
    """Return what kind of money a venue trades: paper, the local chain's play money, or REAL MONEY."""
    if venue.paper:
        return "paper"
    chain = venue.options.get("chain")
    local = chain is not None and chains.stanza(chain).chain_id == chains.LOCAL_CHAIN_ID
    return PLAY_MONEY if local else "REAL MONEY"
