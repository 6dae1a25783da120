"""A deployment at a live venue: a broker that fills at the quote of the decision, plus what a test asks."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.models import Deployment
from maxxit.core.config import _read
from maxxit.market import instruments
from maxxit.market import venues as policies
from positions import book
from positions.models import Position
from positions.tasks import exit_pass
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from trading import settle, wiring
from trading.models import Order
from trading.risk.policy import policy as risk_policy
from trading.venues.base import Venue, VenueFill

D = Decimal
BROKER = "broker"


class Broker(FakeVenue):
    """Fills with the twin's slippage and fee, `extra_bps` of slippage more, and normal noise of `noise_bps`."""

    name = BROKER

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        self.extra_bps, self.noise_bps, self.fee_bps = 0.0, 0.0, 10.0
        self.seconds = 0.0
        """Until it fills."""
        self._random = random.Random(seed)
        self.time: RecordedClock

    def fill(self, ref: str, quantity: str = "", **options: Any) -> VenueFill:
        terms = self.book[ref].request
        worse = (5 + self.extra_bps + self._random.gauss(0, self.noise_bps)) / 10_000
        sign = 1 if terms["side"] == "buy" else -1
        price = Decimal(terms["reference_price"]) * (1 + sign * Decimal(f"{worse:.8f}"))
        cash = price * Decimal(quantity or terms["quantity"])
        self.time.move(seconds=self.seconds)
        fee = cash * Decimal(f"{self.fee_bps / 10_000:.6f}")
        return super().fill(ref, quantity, **{"usd": f"{price:.8f}", "fee": f"{fee:.6f}"} | options)


@dataclass
class Live:
    """What the tests of twins work with."""

    deployment: Deployment
    broker: Broker
    time: RecordedClock

    def enter(self, **signal: Any) -> Order:
        """Place an entry an hour and a day after the last one, as far as it goes at once."""
        self.time.move(hours=25)
        make.price("ETH", "2000")
        make.price("BTC", "60000")
        order = make.order(
            self.deployment,
            by=make.signal(self.deployment.agent, **signal),
        )
        make.place(order, self.broker, risk_policy())
        book.book()
        order.refresh_from_db()
        return order

    def leave(self, usd: str = "2400") -> None:
        """Let the price reach the target of what is open, and everything run."""
        self.time.move(minutes=20)
        make.price("ETH", usd)
        exit_pass()
        settle.settle_due()
        book.book()

    def trade(self) -> Position:
        """Enter and leave."""
        order = self.enter()
        self.leave()
        return Position.objects.get(entry_order=order)


@pytest.fixture
def live(
    db: None,
    time: RecordedClock,
    no_approval_file: object,
    use_venue: Callable[[Venue], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Live]:
    """A deployment at the venue `broker`, which the configuration names beside the paper exchange."""
    folder = tmp_path / "config"
    shutil.copytree(Path("config"), folder)
    stanzas = yaml.safe_load((folder / "venues.yaml").read_text())
    broker = {"adapter": "alpaca", "shorts": True, "max_leverage": 1, "paper": False}
    (folder / "venues.yaml").write_text(yaml.safe_dump(stanzas | {BROKER: broker}))
    markets = yaml.safe_load((folder / "markets.yaml").read_text())
    for token in ("ETH", "BTC"):
        markets["instruments"][token]["venues"] += [BROKER]
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(folder))
    forget_configuration()
    venue = Broker()
    venue.time = time
    use_venue(venue)
    make.open_gate(BROKER)
    make.price("ETH", "2000")
    agent = make.agent(venue=BROKER, name="Twin agent", tokens=["ETH", "BTC"])
    yield Live(make.booked_deployment(agent, account="live:1"), venue, time)
    monkeypatch.undo()
    forget_configuration()


def forget_configuration() -> None:
    """Read the files again."""
    for cached in (_read, instruments._markets, instruments.all_instruments, policies.venues, wiring.venue):
        cached.cache_clear()
