"""The pipeline from end to end on a real chain: post → swap in the Safe → exit, and the ledger equals `balanceOf`."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agents.models import Deployment
from maxxit.core import clock
from maxxit.events.models import Event
from maxxit.evm.codec import encode_call
from positions.models import Position
from positions.tasks import watch_risk
from signals_app.classify import classify
from signals_app.generate import generate
from signals_app.ingest import ingest
from signals_app.policy import policy
from signals_app.sources.jsonl import JsonlSource
from tests import builders as make
from tests.chain.sending.safe_trader import SafeTrader, store_plan, verified
from tests.fakes import FakeModel
from tests.passes import execute_pass, monitor_pass
from trading import ledger, reconcile
from trading.billing.invoice import invoice, parse_month
from trading.chain.models import ChainTransaction
from trading.models import LedgerEntry, Order
from trading.risk import limits
from trading.venues.safe.onboarding import safe_tx

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal


class Pipeline:
    """One agent on the demo user's Safe, following one author."""

    def __init__(self, trader: SafeTrader, folder: Path, model: FakeModel) -> None:
        self.trader, self.model, self.world = trader, model, trader.world
        self.agent = make.agent(venue="safe")
        make.account(self.agent, username="author")
        self.deployment: Deployment = verified(
            make.booked_deployment(self.agent, account=self.world.safe), trader.lab
        )
        store_plan(trader.lab)
        make.open_gate("safe")
        self.price = self.world.price("WETH")
        make.price("ETH", str(self.price))
        make.hourly_bars("ETH", make.calm(float(self.price)), until=clock.now())
        self.posts = folder / "posts.jsonl"
        self.posts.touch()

    def says(self, text: str) -> None:
        ident = str(940000000000000000 + len(self.posts.read_text()))
        with self.posts.open("a") as out:
            at = clock.now().isoformat()
            out.write(json.dumps({"id": ident, "username": "author", "created_at": at, "text": text}) + "\n")
        self.model.reads(ident, "ETH")

    def run(self) -> None:
        """One run of the chain."""
        ingest({"jsonl": JsonlSource([str(self.posts)])})
        classify(policy().classify)
        generate(policy().generate)
        execute_pass()
        monitor_pass()

    def market(self, factor: str) -> None:
        """Feed, pools and our quote move together; exits are looked for and leave."""
        self.price = (self.price * D(factor)).quantize(D("0.01"))
        self.world.move_price("WETH", self.price)
        make.price("ETH", str(self.price))
        monitor_pass()
        execute_pass()
        monitor_pass()

    def on_chain(self, role: str) -> Decimal:
        return D(self.world.balance("USDC", self.world.accounts[role])).scaleb(-6)

    def booked(self, account: str) -> Decimal:
        lines = LedgerEntry.objects.filter(account=account, asset="USDC")
        return sum((line.amount for line in lines), D(0))

    def gas_is_booked(self, since: int) -> None:
        """The executor's account lost exactly what the ledger says that gas cost."""
        address = self.world.accounts["executor"]
        paid = since - int(self.world.rpc("eth_getBalance", address, "latest"), 16)
        assert paid > 0
        assert ledger.balance(ledger.executor_of(address), "ETH") == -D(paid).scaleb(-18)
        lines = LedgerEntry.objects.filter(kind="gas", account="gas:31337")
        assert sorted(line.order.purpose for line in lines if line.order) == ["close", "open"]

    def invoiced(self, closed: Position) -> None:
        """F19: the invoice equals the ledger and the chain: stored receipts and the nodes' own logs."""
        on_chain = (self.on_chain("fee_receiver"), self.on_chain("profit_receiver"))
        for live in (False, True):
            bill = invoice(self.deployment, parse_month(f"{clock.now():%Y-%m}"), live=live)
            assert bill.chain is not None
            assert (bill.chain.source, bill.chain.differences) == ("chain" if live else "receipts", ())
            assert (bill.chain.fees, bill.chain.shares) == (D("0.2"), closed.profit_share) == on_chain
            assert (bill.collected, bill.charged, bill.closing) == (D("0.2") + closed.profit_share, 0, 0)
        stored = ChainTransaction.objects.get(terms__purpose="close")
        ChainTransaction.objects.filter(pk=stored.pk).update(logs=[])
        bill = invoice(self.deployment, parse_month(f"{clock.now():%Y-%m}"))
        assert bill.chain is not None
        assert len(bill.chain.differences) == bool(closed.profit_share), (
            "a share that the receipt does not show"
        )
        ChainTransaction.objects.filter(pk=stored.pk).update(logs=stored.logs)

    def sound(self) -> None:
        """The ledger equals the chain for everyone, to the unit."""
        profit = self.world.accounts["profit_receiver"]
        assert ledger.drift() == {}
        assert reconcile.drifts() == {}
        assert self.booked("fees:platform") == self.on_chain("fee_receiver")
        assert self.booked(f"profit:{profit}") == self.on_chain("profit_receiver")


@pytest.fixture
def pipeline(
    trader: SafeTrader, tmp_path: Path, model: FakeModel, empty_cache: None, no_approval_file: Path
) -> Pipeline:
    return Pipeline(trader, tmp_path, model)


@pytest.mark.parametrize(("factor", "why"), [("1.25", "take_profit"), ("0.9", "stop_loss")])
def test_a_post_becomes_a_swap_and_back_and_the_ledger_equals_the_chain(
    pipeline: Pipeline, factor: str, why: str
) -> None:
    executor = pipeline.world.accounts["executor"]
    ether = int(pipeline.world.rpc("eth_getBalance", executor, "latest"), 16)
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    opened = Position.objects.get()
    held = D(pipeline.world.balance("WETH", pipeline.world.safe)).scaleb(-18)

    assert (opened.state, opened.quantity) == ("open", held)
    pipeline.sound()

    pipeline.market(factor)
    closed = Position.objects.get()

    assert (closed.state, closed.exit_reason) == ("closed", why)
    assert pipeline.world.balance("WETH", pipeline.world.safe) == 0
    pipeline.sound()
    pipeline.gas_is_booked(since=ether)
    pipeline.invoiced(closed)
    usdc = D(pipeline.world.balance("USDC", pipeline.world.safe)).scaleb(-6)
    assert usdc - D(10_000) == closed.realised_pnl - closed.profit_share
    if why == "take_profit":
        assert closed.profit_share == (closed.realised_pnl * D("0.2")).quantize(D("0.000001"), "ROUND_DOWN")
        assert closed.profit_share > 0
    else:
        assert (closed.profit_share, closed.realised_pnl < 0) == (D(0), True)
    assert [tx.state for tx in ChainTransaction.objects.all()] == ["final", "final"]
    assert all("raw" not in json.dumps(order.prepared) for order in Order.objects.all())
    names = list(Event.objects.filter(name__startswith="transaction.").values_list("name", flat=True))
    assert sorted(names) == sorted(
        ["transaction.signed", "transaction.broadcast", "transaction.mined", "transaction.final"] * 2
    )


def test_what_the_owner_takes_out_himself_ends_its_position(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.run()
    held = pipeline.world.balance("WETH", pipeline.world.safe)
    watch_risk()  # from here on the chain is read for what its owner moves
    take = encode_call("transfer(address,uint256)", pipeline.world.accounts["owner"], held)
    token = pipeline.world.token("WETH").address
    pipeline.world.execute_as_owner(
        safe_tx(31337, pipeline.world.safe, token, take, 0, pipeline.world.safe_nonce())
    )

    assert watch_risk() == []

    ended = Position.objects.get()
    assert (ended.state, ended.exit_reason) == ("closed", "reconciled")
    assert ended.exit_price is not None
    assert round(ended.exit_price, 4) == pipeline.price
    assert ended.profit_share == 0
    assert [order.purpose for order in Order.objects.all()] == ["open"]
    assert limits.read_holdings().held(pipeline.world.safe, "ETH") == 0
    pipeline.sound()
