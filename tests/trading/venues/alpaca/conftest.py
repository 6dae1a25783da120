"""A fresh fake broker and the adapter that asks it."""

import pytest

from tests.builders import RecordedClock
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.world import KnownKeys, fresh


@pytest.fixture
def fake(time: RecordedClock) -> Server:
    """The broker whose clock is the recorded one."""
    server = fresh()
    server.broker.time = lambda: time.now
    return server


@pytest.fixture
def venue(fake: Server) -> KnownKeys:
    """The adapter; AAPL and ETH are stocks."""
    return KnownKeys(fake, stocks=("AAPL", "ETH"))
