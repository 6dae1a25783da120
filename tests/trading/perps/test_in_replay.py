"""A replay of perpetual futures: liquidations come before the stops of the same bar, and funding is booked."""

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.market import candles
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.base import Tick
from maxxit.replay.run import GUARD, Playback, play
from positions import book
from positions.models import Position
from positions.performance import identity
from signals_app.sources.base import PostSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.passes import execute_pass
from trading import reconcile
from trading.models import FundingPayment
from trading.venues.paper import PaperVenue

pytestmark = pytest.mark.django_db
D = Decimal


class Recorded(Playback):
    """Bars of ETH, without posts."""

    def __init__(self, bars: list[Bar]) -> None:
        self.bars, self.seconds = bars, defaultdict(float)
        self.start, self.end = bars[0].open_time, bars[-1].known_at

    def sources(self) -> dict[str, PostSource]:
        return {}

    def ticks(self) -> dict[datetime, list[Tick]]:
        return {bar.known_at: [Tick("ETH", bar.close, bar.known_at, "file")] for bar in self.bars}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is woken when its row is written: the test's transaction never commits."""
    monkeypatch.setattr("maxxit.events.wake.transaction.on_commit", lambda wake, *_, **__: wake())


def bars(*levels: tuple[str, str, str], start: datetime = T0) -> list[Bar]:
    """Bars from `start` on: (low, high, close)."""
    return [
        Bar(start + BAR * number, D(close), D(high), D(low), D(close), D(1))
        for number, (low, high, close) in enumerate(levels)
    ]


def opened(deployment: Any, time: RecordedClock) -> Position:
    """A long at five times its margin."""
    make.signal(deployment.agent, leverage=D(5), stop_loss_pct=D(4), take_profit_pct=D(12))
    execute_pass()
    book.book()
    time.release()
    return Position.objects.get(deployment=deployment)


def replayed(recorded: Recorded) -> None:
    """Play it, as `manage.py replay` does, and compare the books at its end."""
    candles.store("ETH", recorded.bars)
    play(recorded, lambda moment: None)
    with clock.frozen(recorded.end):
        assert reconcile.drifts() == {}
    assert identity.read_identity().wrong == []


def test_a_bar_with_stop_and_liquidation_price_liquidates(
    perps: PaperVenue, deployment: Any, time: RecordedClock
) -> None:
    """Its close is below the stop, so that the sweep of the same moment would have sold there."""
    position = opened(deployment, time)
    replayed(
        Recorded(
            bars(
                ("1990", "2010", "2000"),
                ("1600", "2000", "1900"),
                ("1900", "1910", "1905"),
                ("1900", "1910", "1905"),
            )
        )
    )
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closed", "liquidated")
    assert position.exits == 1, "no closing order of ours was sent in vain"
    assert position.closed_at == T0 + 2 * BAR
    adopted = Event.objects.get(name="order.adopted")
    assert adopted.data["why"] == "liquidated"


def test_a_bar_that_stays_above_the_liquidation_price_stops(
    perps: PaperVenue, deployment: Any, time: RecordedClock
) -> None:
    position = opened(deployment, time)
    replayed(Recorded(bars(("1990", "2010", "2000"), ("1750", "2000", "1900"), ("1900", "1910", "1905"))))
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closed", "stop_loss")


def test_funding_is_booked_at_its_time(perps: PaperVenue, deployment: Any, time: RecordedClock) -> None:
    before = time.to(T0 + timedelta(hours=3, minutes=50))
    make.price("ETH", "2000")
    opened(deployment, time)
    replayed(Recorded(bars(*[("1990", "2010", "2000")] * 3, start=before)))
    payment = FundingPayment.objects.get()
    assert payment.at == T0 + timedelta(hours=4)
    assert payment.amount < 0


def test_without_a_venue_that_liquidates_a_replay_has_no_such_pass(db: None) -> None:
    assert GUARD not in Recorded(bars(("1", "1", "1"))).passes()
