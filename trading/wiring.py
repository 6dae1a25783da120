"""Create the venue adapters that config/venues.yaml names. No other module instantiates one."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import structlog

from maxxit.market.venues import VenuePolicy, venue_policy, venues
from trading import passes
from trading.chain import chains
from trading.venues import VENUES
from trading.venues.base import Venue

log = structlog.get_logger(__name__)
T = TypeVar("T")
PLAY_MONEY, REAL_MONEY = "play money on the local chain", "REAL MONEY"


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


def capability(name: str, read: Callable[[Venue], T], default: T) -> T:
    """Return what `read` says of a venue; `default` where it cannot be opened, which is logged and stops no other."""
    try:
        return read(venue(name))
    except Exception as error:
        log.error("venue_not_opened", venue=name, error=str(error))
        return default


def batch_size(name: str) -> int:
    """Return how many orders of a venue are placed, or settled, together.

    One where the venue cannot be opened: the error is counted when its orders are processed.
    """
    most = passes.policy().batch
    return min(most, capability(name, lambda one: one.capabilities.batch, 1))


def is_local(name: str) -> bool:
    """Return whether a venue answers from our own database; False where it cannot be opened."""
    return capability(name, lambda one: one.capabilities.local, False)


def keeps_exits(name: str) -> bool:
    """Return whether a venue can keep the stop and target of an entry; False where it cannot be opened."""
    return capability(name, lambda one: one.capabilities.resting_exits, False)


def liquidating_venues() -> list[str]:
    """Return the names of the venues that liquidate positions; one that cannot be opened is left out."""
    with_margin = [name for name, stanza in venues().items() if not stanza.is_spot]
    return [name for name in with_margin if capability(name, lambda one: one.capabilities.liquidates, False)]


def money_at_stake(venue: VenuePolicy) -> str:
    """Return what kind of money a venue trades: paper, the local chain's play money, or REAL MONEY."""
    if venue.paper:
        return "paper"
    chain = venue.options.get("chain")
    local = chain is not None and chains.stanza(chain).chain_id == chains.LOCAL_CHAIN_ID
    return PLAY_MONEY if local else REAL_MONEY
