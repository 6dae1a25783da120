"""The pipeline from end to end at GMX: post → position of the Safe → its end, and the ledger equals the chain."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from maxxit.core import clock
from positions.exits import at_venue
from positions.models import Position
from positions.tasks import watch_risk
from signals_app.classify import classify
from signals_app.generate import generate
from signals_app.ingest import ingest
from signals_app.policy import policy
from signals_app.sources.jsonl import JsonlSource
from tests import builders as make
from tests.fakes import FakeModel
from tests.passes import execute_pass, monitor_pass
from tests.trading.venues.gmx.world import PerpsTrader
from trading import ledger, reconcile
from trading.models import FundingPayment, LedgerEntry, Order
from trading.venues.safe import safes
from trading.wiring import venue

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal


class Pipeline:
    """One agent on the demo user's Safe at GMX, following one author."""

    def __init__(self, trader: PerpsTrader, folder: Path, model: FakeModel) -> None:
        self.trader, self.model, self.world, self.lab = trader, model, trader.world, trader.lab
        trader.deployment.agent.tokens = ["ETH"]
        trader.deployment.agent.save()
        self.deployment = trader.deployment
        make.account(self.deployment.agent, username="author")
        assert safes.check(self.deployment) == []
        self.price = self.world.price("WETH")
        make.price("ETH", str(self.price))
        make.hourly_bars("ETH", make.calm(float(self.price)), until=clock.now())
        self.posts = folder / "posts.jsonl"
        self.posts.touch()
        executor = self.world.accounts["executor"]
        self.paid_before = self.lab.ether(executor)
        self.coins_before = self.lab.ether(self.lab.safe)

    def says(self, text: str) -> None:
        ident = str(940000000000000000 + len(self.posts.read_text()))
        with self.posts.open("a") as out:
            at = clock.now().isoformat()
            out.write(json.dumps({"id": ident, "username": "author", "created_at": at, "text": text}) + "\n")
        self.model.reads(ident, "ETH")

    def run(self) -> None:
        """One run of the chain: the entry is created, and a keeper comes."""
        ingest({"jsonl": JsonlSource([str(self.posts)])})
        classify(policy().classify)
        generate(policy().generate)
        execute_pass()
        self.keep()

    def keep(self) -> None:
        """The keeper comes; what it did is booked."""
        self.trader.keep()
        at_venue.watch()
        execute_pass()
        monitor_pass()

    def move(self, factor: str) -> None:
        """Feed and quote move together."""
        self.price = (self.price * D(factor)).quantize(D("0.01"))
        self.world.move_price("WETH", self.price)
        make.price("ETH", str(self.price))

    def sound(self) -> None:
        """The ledger equals the chain for everyone, to the base unit, coins included."""
        watch_risk()
        assert ledger.drift() == {}
        assert reconcile.drifts() == {}
        for role, account in (("fee_receiver", "fees:platform"), ("profit_receiver", "profit:")):
            address = self.world.accounts[role]
            lines = LedgerEntry.objects.filter(account__startswith=account, asset="USDC")
            booked = sum((line.amount for line in lines), D(0))
            assert booked == D(self.world.balance("USDC", address)).scaleb(-6), role
        executor = self.world.accounts["executor"]
        spent = D(self.paid_before - self.lab.ether(executor)).scaleb(-18)
        assert ledger.balance(ledger.executor_of(executor), "ETH") == -spent
        coins = D(self.lab.ether(self.lab.safe) - self.coins_before).scaleb(-18)
        assert ledger.balance(ledger.coins_of_safe(self.lab.safe), "ETH") == coins


@pytest.fixture
def pipeline(trader: PerpsTrader, tmp_path: Path, model: FakeModel, empty_cache: None) -> Pipeline:
    return Pipeline(trader, tmp_path, model)


def test_a_post_becomes_a_position_whose_stop_the_keeper_executes_while_we_are_down(
    pipeline: Pipeline,
) -> None:
    pipeline.trader.venue_of().fee_headroom_bps = 10**7
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    opened = Position.objects.get()
    assert opened.state == "open", [(o.state, o.reason) for o in Order.objects.all()]
    assert opened.quantity == pipeline.trader.held()["ETH"]
    pipeline.sound()

    pipeline.lab.later(3_600)
    pipeline.move("0.9")
    pipeline.trader.keep()  # our workers are stopped: the keeper alone
    assert set(pipeline.trader.held()) == {"USDC"}
    for _ in range(3):
        pipeline.keep()

    closed = Position.objects.get()
    assert (closed.state, closed.exit_reason) == ("closed", "stop_loss")
    assert FundingPayment.objects.exists()
    pipeline.sound()


def test_a_winner_that_our_sweep_closes_pays_its_share_and_the_books_are_sound(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    pipeline.move("1.3")
    for _ in range(6):
        pipeline.keep()

    closed = Position.objects.get()
    assert (closed.state, closed.exit_reason) == ("closed", "take_profit")
    assert closed.profit_share > 0
    pipeline.sound()


def test_a_liquidation_becomes_a_closing_order_and_the_books_are_sound(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    entry = Order.objects.get()
    at = venue("gmx")
    at.release([entry.venue_ref])
    pipeline.keep()
    pipeline.move("0.05")
    pipeline.trader.keep()
    watch_risk()
    for _ in range(3):
        pipeline.keep()

    closed = Position.objects.get()
    assert (closed.state, closed.exit_reason) == ("closed", "liquidated")
    pipeline.sound()


def test_a_cancelled_entry_costs_the_fee_and_the_books_are_sound(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    ingest({"jsonl": JsonlSource([str(pipeline.posts)])})
    classify(policy().classify)
    generate(policy().generate)
    execute_pass()
    pipeline.move("1.03")
    for _ in range(3):
        pipeline.keep()

    order = Order.objects.get()
    assert (order.state, order.reason) == ("rejected", "order_not_fulfillable_at_acceptable_price")
    assert not Position.objects.exists()
    pipeline.sound()


def test_the_owners_deposits_and_withdrawals_are_booked_as_theirs(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    pipeline.world.mint("USDC", pipeline.lab.safe, 500 * 10**6)
    comparison = reconcile.compare_settled()

    assert comparison.differences == {}
    booked = LedgerEntry.objects.filter(kind="external", deployment=pipeline.deployment, amount=500)
    assert booked.count() == 1
    pipeline.sound()
