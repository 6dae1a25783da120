"""A bracket from signal to closed position: through the passes of the workers, on Postgres, at the fake broker."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from positions import book
from positions.exits import at_venue, sweep
from positions.models import Position
from positions.tasks import exit_pass
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.world import KnownKeys, fresh
from trading import settle
from trading.models import Fill, Order
from trading.risk.policy import policy
from trading.venues.base import Venue

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture
def fake(
    time: RecordedClock,
    use_venue: Callable[[Venue], None],
    no_approval_file: object,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    """A broker of every deployment, on a Monday at noon in New York."""
    monkeypatch.setattr(at_venue, "PAUSES", (0.0, 0.0))
    time.to(datetime(2026, 11, 30, 17, tzinfo=UTC))
    server = fresh()
    server.broker.time = lambda: time.now
    use_venue(KnownKeys(server, stocks=("AAPL", "ETH")))
    make.open_gate()
    return server


def entered(fake: Server) -> Position:
    """A position of whole shares at 40 USD, with its legs at the broker."""
    fake.broker.price("ETH", "40")
    make.price("ETH", "40")
    agent = make.agent(exit_preset="conservative")
    deployment = make.booked_deployment(agent, usdc="10000")
    fake.broker.account(deployment.account, cash=D(10_000))
    order = make.order(deployment, by=make.signal(agent, usd="40"))
    verdict = make.place(order, at(fake), policy())
    assert verdict.allowed, verdict
    book.book()
    position = Position.objects.get(entry_order=order)
    assert position.quantity % 1 == 0
    return position


def at(fake: Server) -> Venue:
    from trading.wiring import venue

    return venue("paper")


def everything_runs(time: RecordedClock) -> None:
    for _ in range(4):
        time.move(seconds=3)
        at_venue.watch()
        exit_pass()
        settle.settle_due()
        book.book()


def closed(fake: Server, position: Position, reason: str) -> Position:
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closed", reason)
    account = fake.broker.account(position.entry_order.account)
    assert account.held["ETH"] == 0
    sold = sum(Fill.objects.filter(order__purpose="close").values_list("quantity", flat=True))
    assert sold == position.quantity
    assert not [row for row in account.orders.values() if row["status"] in ("new", "held", "accepted")]
    return position


def test_a_stop_at_alpaca_closes_while_nothing_of_ours_runs(fake: Server, time: RecordedClock) -> None:
    position = entered(fake)
    time.move(hours=1)
    fake.broker.price("ETH", "39")
    assert fake.broker.account(position.entry_order.account).held["ETH"] == 0
    everything_runs(time)
    assert closed(fake, position, "stop_loss").exit_price == D(39)


def test_our_sweep_cancels_the_legs_first(fake: Server, time: RecordedClock) -> None:
    """Our price crossed the stop, Alpaca's did not."""
    position = entered(fake)
    make.price("ETH", "39")
    fake.requests.clear()
    everything_runs(time)
    closed(fake, position, "stop_loss")
    sent = [line.split()[0] for line in fake.lines() if line.split()[0] != "GET"]
    assert sent == ["DELETE", "DELETE", "POST"] or sent == ["DELETE", "POST"]


def test_a_leg_that_fills_beside_our_sweep_is_the_only_one(fake: Server, time: RecordedClock) -> None:
    position = entered(fake)
    make.price("ETH", "39")
    sweep.sweep()
    fake.broker.price("ETH", "39")
    everything_runs(time)
    closed(fake, position, "stop_loss")
    assert sorted(Order.objects.filter(purpose="close").values_list("state", flat=True)) == [
        "blocked",
        "filled",
    ]


def test_at_night_the_legs_stay(fake: Server, time: RecordedClock) -> None:
    position = entered(fake)
    fake.broker.is_open = False
    time.move(seconds=30)
    make.price("ETH", "39")
    everything_runs(time)
    position.refresh_from_db()
    assert position.state in ("open", "closing")
    [entry] = [
        row for row in fake.broker.account(position.entry_order.account).orders.values() if row["legs"]
    ]
    assert {leg["status"] for leg in entry["legs"]} == {"new"}
    fake.broker.price("ETH", "39")
    fake.broker.opens()
    time.move(minutes=10)
    make.price("ETH", "39")
    everything_runs(time)
    closed(fake, position, "stop_loss")
