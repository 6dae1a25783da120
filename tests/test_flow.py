"""The pipeline from end to end, on the paper venue, with a recorded clock: every event and every cent."""

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from agents.models import Agent, Deployment
from maxxit.events.models import Event
from positions.models import Position
from signals_app.classify import classify
from signals_app.generate import generate
from signals_app.ingest import ingest
from signals_app.models import CtPost, Signal
from signals_app.policy import policy
from signals_app.sources.jsonl import JsonlSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.fakes import FakeModel
from tests.passes import execute_pass, monitor_pass
from trading import ledger, reconcile
from trading.models import LedgerEntry, Order
from trading.tasks import settle_pass
from trading.venues.base import Venue
from trading.venues.paper import PaperVenue

pytestmark = pytest.mark.django_db

D = Decimal
DECISION = ["ctpost.new", "ctpost.classified", "signal.pending", "order.planned", "order.sending"]
WAY_OUT = ["position.closing", "order.planned", "order.sending", "order.fill", "execution.completed"]


class Pipeline:
    """One agent that follows one author, with one deployment of 10,000 USDC, and the passes in their order."""

    def __init__(self, folder: Path, time: RecordedClock, model: FakeModel) -> None:
        self.time, self.model = time, model
        self.agent: Agent = make.agent()
        make.account(self.agent, username="author")
        self.deployment: Deployment = make.deployment(self.agent)
        make.open_gate()
        make.hourly_bars("ETH", make.calm())
        self.posts = folder / "posts.jsonl"
        self.posts.touch()
        self.before = make.last_event()

    def says(self, text: str, sentiment: str = "bullish") -> None:
        """The author posts now, and the model will read it so."""
        ident = str(940000000000000000 + len(self.posts.read_text()))
        at = self.time.now.isoformat()
        with self.posts.open("a") as out:
            out.write(json.dumps({"id": ident, "username": "author", "created_at": at, "text": text}) + "\n")
        self.model.reads(ident, "ETH", sentiment=sentiment)

    def decide_and_trade(self) -> None:
        """One run of the chain."""
        ingest({"jsonl": JsonlSource([str(self.posts)])})
        classify(policy().classify)
        generate(policy().generate)
        execute_pass()
        monitor_pass()

    def tick(self, usd: str, **later: float) -> None:
        """The price moves, exits are looked for, closing orders leave, and what they did is booked."""
        self.time.move(**later or {"minutes": 10})
        make.price("ETH", usd)
        monitor_pass()
        execute_pass()
        monitor_pass()

    def events(self) -> list[str]:
        """Since the beginning of the trade."""
        return make.event_names(after=self.before)

    def balances(self) -> dict[str, Decimal]:
        """What the deployment holds, without the assets that it holds none of."""
        return {asset: amount for asset, amount in ledger.balances(self.deployment.pk).items() if amount}

    def kinds(self) -> dict[str, Decimal]:
        """What was booked to others than the deployment and the world outside, by account."""
        found: dict[str, Decimal] = {}
        for line in LedgerEntry.objects.filter(asset="USDC", deployment=None):
            found[line.account] = found.get(line.account, D(0)) + line.amount
        return {account: amount for account, amount in found.items() if account != "external"}


@pytest.fixture
def pipeline(
    tmp_path: Path, time: RecordedClock, model: FakeModel, empty_cache: None, no_approval_file: Path
) -> Pipeline:
    make.price("ETH", "2000")
    return Pipeline(tmp_path, time, model)


def sound() -> bool:
    """The ledger sums to zero and agrees with the venue to the unit."""
    return ledger.drift() == {} and reconcile.drifts() == {}


def test_a_bullish_post_becomes_a_winner_with_fee_and_share_booked_to_the_unit(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    opened = Position.objects.get()

    assert (opened.side, opened.quantity, opened.entry_price) == ("long", D("0.4"), D("2001"))
    assert (opened.stop_loss, opened.take_profit) == (D("1880.94"), D("2361.18"))
    assert (opened.trailing_activation, opened.trailing_stop) == (D("2061.03"), None)
    assert pipeline.balances() == {"ETH": D("0.4"), "USDC": D("10000") - D("800.4") - D("0.8004")}

    pipeline.tick("2400")
    closed = Position.objects.get()

    assert (closed.state, closed.exit_reason, closed.exit_price) == ("closed", "take_profit", D("2398.8"))
    assert closed.fees == D("0.8004") + D("0.2") + D("0.95952")
    assert closed.realised_pnl == D("157.16008")
    assert closed.profit_share == D("31.432016")
    assert pipeline.balances() == {"USDC": D("10157.36008")}
    assert ledger.owed(pipeline.deployment.pk) == -D("0.2") - D("31.432016")
    assert pipeline.kinds() == {
        "venue:paper": D("-159.12"),
        "venue:paper:fees": D("1.75992"),
        "fees:platform": D("0.2"),
        "profit:platform": D("31.432016"),
    }
    assert pipeline.events() == [
        *DECISION,
        "order.fill",
        "execution.completed",
        "signal.executed",
        "position.open",
        *WAY_OUT,
        "position.closed",
    ]
    assert sound()


def test_a_bullish_post_becomes_a_loser_whose_loss_is_carried_forward(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    pipeline.tick("1880")
    closed = Position.objects.get()
    earned = D("751.624") - D("800.4") - D("0.8004") - D("0.2") - D("0.751624")

    assert (closed.exit_reason, closed.exit_price) == ("stop_loss", D("1879.06"))
    assert (closed.realised_pnl, closed.profit_share) == (earned, D(0))
    assert pipeline.deployment.profit_mark.carried_loss == -earned
    assert pipeline.balances() == {"USDC": D("10000") + earned + D("0.2")}
    assert ledger.owed(pipeline.deployment.pk) == D("-0.2")
    assert pipeline.events() == [
        *DECISION,
        "order.fill",
        "execution.completed",
        "signal.executed",
        "position.open",
        *WAY_OUT,
        "position.closed",
    ]
    assert sound()


def test_a_bearish_post_becomes_a_short_winner(pipeline: Pipeline) -> None:
    pipeline.says("shorting $ETH, this breaks down", sentiment="bearish")
    pipeline.decide_and_trade()
    opened = Position.objects.get()

    assert (opened.side, opened.quantity, opened.entry_price) == ("short", D("0.4"), D("1999"))
    assert (opened.stop_loss, opened.take_profit) == (D("2118.94"), D("1639.18"))
    assert pipeline.balances() == {"ETH": D("-0.4"), "USDC": D("10000") + D("799.6") - D("0.7996")}

    pipeline.tick("1600")
    closed = Position.objects.get()
    earned = D("799.6") - D("640.32") - D("0.7996") - D("0.2") - D("0.64032")

    assert (closed.exit_reason, closed.exit_price) == ("take_profit", D("1600.8"))
    assert (closed.realised_pnl, closed.profit_share) == (earned, D("31.528016"))
    assert pipeline.balances() == {"USDC": D("10000") + earned + D("0.2")}
    assert sound()


def test_a_bearish_post_becomes_a_short_loser(pipeline: Pipeline) -> None:
    pipeline.says("shorting $ETH, this breaks down", sentiment="bearish")
    pipeline.decide_and_trade()
    pipeline.tick("2120")
    closed = Position.objects.get()
    earned = D("799.6") - D("848.424") - D("0.7996") - D("0.2") - D("0.848424")

    assert (closed.exit_reason, closed.exit_price) == ("stop_loss", D("2121.06"))
    assert (closed.realised_pnl, closed.profit_share) == (earned, D(0))
    assert pipeline.balances() == {"USDC": D("10000") + earned + D("0.2")}
    assert sound()


def test_a_trade_in_partial_fills_ends_with_the_same_books(
    pipeline: Pipeline, use_venue: Callable[[Venue], None]
) -> None:
    use_venue(PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=300))
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    grown = Position.objects.get()

    assert grown.quantity < D("0.4")
    for _ in range(3):
        pipeline.time.move(seconds=15)
        settle_pass()
        monitor_pass()
    grown.refresh_from_db()

    assert (grown.quantity, grown.entry_price) == (D("0.4"), D("2001"))
    pipeline.tick("2400")
    for _ in range(4):
        pipeline.time.move(seconds=15)
        settle_pass()
        monitor_pass()
    closed = Position.objects.get()
    entries = Order.objects.get(purpose="open").fills.count()
    exits = Order.objects.get(purpose="close").fills.count()

    assert (closed.state, closed.exit_price) == ("closed", D("2398.8"))
    assert (entries, exits) == (3, 4)
    assert closed.realised_pnl == D("959.52") - D("800.4") - closed.fees
    assert closed.fees == D("0.2") + sum(
        fill.fee for order in Order.objects.all() for fill in order.fills.all()
    )
    assert closed.profit_share == (closed.realised_pnl / 5).quantize(D("0.000001"))
    assert LedgerEntry.objects.filter(kind="platform_fee", amount__gt=0).count() == 1
    assert pipeline.balances() == {"USDC": D("10000") + closed.realised_pnl + D("0.2")}
    assert pipeline.events() == [
        *DECISION,
        *["order.fill", "order.fill", "order.partially_filled"],
        *["signal.executed", "position.open"],
        *["order.fill", "execution.completed", "position.grown"],
        *WAY_OUT[:3],
        *["order.fill", "order.fill", "order.partially_filled"],
        *["order.fill", "order.fill", "execution.completed"],
        "position.closed",
    ]
    assert sound()


def test_every_event_of_a_trade_carries_the_correlation_id_of_its_post(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    pipeline.tick("2400")
    derived = CtPost.objects.get().correlation_id

    assert set(Event.objects.filter(pk__gt=pipeline.before).values_list("correlation_id", flat=True)) == {
        derived
    }
    assert set(LedgerEntry.objects.exclude(kind="deposit").values_list("correlation_id", flat=True)) == {
        derived
    }
    assert Signal.objects.get().correlation_id == derived


def test_the_post_says_how_far_it_came_at_every_step(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    stages: list[Callable[[], object]] = [
        lambda: ingest({"jsonl": JsonlSource([str(pipeline.posts)])}),
        lambda: classify(policy().classify),
        lambda: generate(policy().generate),
        execute_pass,
    ]
    seen = []
    for stage in stages:
        stage()
        seen.append(CtPost.objects.get().outcome)

    assert seen == ["pending", "candidate:waiting", "signal", "traded"]


def test_a_winner_after_a_loser_pays_a_share_only_above_the_high_water_mark(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    pipeline.tick("1880")
    lost = Position.objects.get().realised_pnl
    pipeline.time.to(T0 + timedelta(hours=6))
    make.price("ETH", "2000")
    make.hourly_bars("ETH", make.calm(bars=6), until=pipeline.time.now)
    pipeline.says("buying $ETH once more, now it goes")
    pipeline.decide_and_trade()
    pipeline.tick("2400")
    won = Position.objects.order_by("pk").last()

    assert won is not None
    assert won.realised_pnl > -lost > 0
    assert won.profit_share == ((won.realised_pnl + lost) / 5).quantize(D("0.000001"))
    assert sound()


def test_a_run_of_the_whole_pipeline_again_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.says("buying $ETH here, this is the bottom")
    pipeline.decide_and_trade()
    events, orders, deployment = pipeline.events(), Order.objects.count(), pipeline.balances()
    for _ in range(2):
        pipeline.decide_and_trade()

    assert (pipeline.events(), Order.objects.count(), pipeline.balances()) == (events, orders, deployment)
