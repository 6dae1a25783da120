"""The sessions that a broker publishes are stored once a day, and a closed market names its next opening."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from maxxit.market import calendar
from maxxit.reports.trades import why
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.world import KnownKeys, fresh
from trading.models import Order
from trading.risk.policy import policy
from trading.venues.base import Venue
from trading.venues.hours import refresh_calendar

pytestmark = pytest.mark.django_db


@pytest.fixture
def fake(time: RecordedClock, use_venue: Callable[[Venue], None], no_approval_file: object) -> Server:
    """A broker of every deployment, on the day after Thanksgiving, an hour after its early close."""
    time.to(datetime(2026, 11, 27, 19, tzinfo=UTC))
    server = fresh()
    server.broker.time = lambda: time.now
    venue = KnownKeys(server, stocks=("AAPL", "ETH"))
    use_venue(venue)
    make.open_gate()
    return server


def test_the_calendar_of_the_broker_is_stored(fake: Server) -> None:
    deployment = make.booked_deployment(make.agent())
    assert refresh_calendar() > 250
    assert fake.lines() == ["GET /v2/calendar"]
    stored = calendar.session_of(date(2026, 12, 24))
    assert stored is not None
    assert f"{stored.closes_at:%H:%M}" == "18:00"
    assert deployment.account in str(fake.requests[0])


def test_an_account_that_cannot_be_read_does_not_stop_the_calendar(fake: Server) -> None:
    for _ in range(2):
        make.booked_deployment(make.agent())
    fake.misbehaves("maintenance", "GET")
    assert refresh_calendar() > 250


@pytest.mark.parametrize("fault", ["page", "gone", "limited"])
def test_a_calendar_that_cannot_be_read_leaves_the_stored_one(fake: Server, fault: str) -> None:
    make.booked_deployment(make.agent())
    refresh_calendar()
    fake.misbehaves(fault, "GET")
    assert refresh_calendar() == 0
    assert calendar.session_of(date(2026, 12, 24)) is not None


def test_a_venue_without_hours_publishes_none(
    time: RecordedClock, use_venue: Callable[[Venue], None]
) -> None:
    use_venue(FakeVenue())
    make.booked_deployment(make.agent())
    assert refresh_calendar() == 0


def test_an_order_at_a_closed_exchange_says_until_when(fake: Server) -> None:
    fake.broker.is_open = False
    fake.broker.account("x", cash=Decimal(100_000))
    make.price("ETH", "2000")
    agent = make.agent()
    order = make.order(make.booked_deployment(agent), by=make.signal(agent))
    verdict = make.place(order, fake_venue(fake), policy())
    assert verdict.reason == "market_closed"
    [stop] = why.why("order", str(Order.objects.get().pk))
    assert stop.meaning == "the New York exchange is closed until Mon 30 Nov 14:30 UTC"
    assert (stop.measured, stop.limit) == ("", "")


def fake_venue(server: Server) -> KnownKeys:
    return KnownKeys(server, stocks=("AAPL", "ETH"))
