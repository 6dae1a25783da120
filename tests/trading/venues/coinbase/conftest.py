"""A fresh fake exchange and the adapter that asks it."""

import pytest

from tests.builders import RecordedClock
from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.world import KnownKeys, fresh


@pytest.fixture
def fake(time: RecordedClock) -> Server:
    """The exchange whose clock is the recorded one."""
    server = fresh()
    server.exchange.time = lambda: time.now
    return server


@pytest.fixture
def venue(fake: Server) -> KnownKeys:
    """The adapter."""
    return KnownKeys(fake)
