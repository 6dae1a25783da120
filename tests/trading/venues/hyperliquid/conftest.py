"""A fresh fake exchange, the adapter that asks it, and a deployment that trades there."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from maxxit.market import venues
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.world import KnownKeys, fresh
from trading.deployments.funding import fund
from trading.venues.base import Venue

ACCOUNT = "perps:1"


@pytest.fixture
def fake(time: RecordedClock) -> Server:
    """The exchange, whose clock is the recorded one."""
    server = fresh()
    server.exchange.time = lambda: time.now
    return server


@pytest.fixture
def venue(fake: Server) -> KnownKeys:
    """The adapter: BTC and ETH, shorts, leverage up to 5."""
    return KnownKeys(fake)


@pytest.fixture
def deployment(
    venue: KnownKeys, db: None, monkeypatch: pytest.MonkeyPatch, use_venue: Callable[[Venue], None]
) -> Any:
    """A deployment whose account at the fake holds 10,000 USDC when it starts."""
    stanza = venues.VenuePolicy(adapter="hyperliquid", shorts=True, max_leverage=Decimal(5), paper=False)
    monkeypatch.setattr(venues, "venues", lambda: {"paper": stanza})
    monkeypatch.setattr("trading.wiring.venues", lambda: {"paper": stanza})
    venue.name = "paper"
    use_venue(venue)
    venue.account(ACCOUNT, cash=Decimal(10_000))
    made = make.deployment(make.agent(), funded=False, account=ACCOUNT)
    assert fund(made)
    return made
