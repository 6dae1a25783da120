"""One deployment at a fake venue, whose gate is open."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agents.models import Agent, Deployment
from signals_app.models import Signal
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from trading.models import Order
from trading.risk.checks import Verdict
from trading.risk.policy import policy
from trading.venues.base import Venue


@dataclass
class Trader:
    """What the tests of execution work with."""

    agent: Agent
    deployment: Deployment
    venue: FakeVenue
    time: RecordedClock

    def signal(self, **fields: Any) -> Signal:
        """A pending signal of the agent."""
        return make.signal(self.agent, **fields)

    def planned(self, **fields: Any) -> Order:
        """A planned entry."""
        return make.order(self.deployment, by=self.signal(**fields))

    def place(self, order: Order) -> Verdict:
        """Reserve and send it, or block it."""
        return make.place(order, self.venue, policy())

    def placed(self, **fields: Any) -> Order:
        """An entry that went as far as it goes at once."""
        order = self.planned(**fields)
        self.place(order)
        order.refresh_from_db()
        return order

    def sent(self, order: Order) -> int:
        """How many orders it became at the venue."""
        return self.venue.effects[order.client_order_id or ""]


@pytest.fixture
def trader(
    db: None, time: RecordedClock, no_approval_file: object, use_venue: Callable[[Venue], None]
) -> Trader:
    venue = FakeVenue()
    use_venue(venue)
    make.open_gate()
    make.price("ETH", "2000")
    agent = make.agent()
    return Trader(agent, make.booked_deployment(agent), venue, time)
