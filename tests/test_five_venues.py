"""One post becomes a trade at each of the five venues, which is closed, reconciled and in the day's summary.

Paper and the chain are the real ones; Alpaca, Coinbase and Hyperliquid are the fakes that their own clients agree with
(`make conformance`). `pytest -s tests/test_five_venues.py` shows all of it on one screen.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.models import CtAccount, Deployment, Subscription
from maxxit.core import clock
from maxxit.core.config import _read
from maxxit.market import instruments
from maxxit.market import venues as policies
from positions.exits import at_venue
from positions.models import Position
from positions.performance.end_of_day import end_of_day
from positions.performance.points import take_points
from positions.tasks import book_pass, exit_pass
from signals_app.classify import classify
from signals_app.generate import generate
from signals_app.ingest import ingest
from signals_app.policy import policy
from signals_app.sources.jsonl import JsonlSource
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.chain.lab import Lab
from tests.contracts import safe
from tests.fakes import FakeModel
from tests.passes import execute_pass, monitor_pass
from tests.trading.venues.alpaca import world as alpaca
from tests.trading.venues.coinbase import world as coinbase
from tests.trading.venues.hyperliquid import world as hyperliquid
from trading import ledger, reconcile, wiring
from trading.chain.models import SafePlan
from trading.deployments.funding import fund
from trading.models import Order
from trading.venues.paper import PaperVenue
from trading.venues.safe import verify
from trading.venues.safe.reconcile import reconcile_all as reconcile_safes
from trading.venues.safe.venue import SafeVenue

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal
STANZAS: dict[str, dict[str, Any]] = {
    "alpaca": {"adapter": "alpaca", "shorts": False, "max_leverage": 1, "paper": True, "cash": "USD"},
    "coinbase": {"adapter": "coinbase", "shorts": False, "max_leverage": 1, "paper": False, "cash": "USD"},
    "hyperliquid": {"adapter": "hyperliquid", "shorts": True, "max_leverage": 5, "paper": False},
}
VENUES = ("paper", "safe", *STANZAS)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped configuration with all five venues, each of which lists ETH."""
    folder = tmp_path / "config"
    shutil.copytree(Path("config"), folder)
    stanzas = yaml.safe_load((folder / "venues.yaml").read_text())
    (folder / "venues.yaml").write_text(yaml.safe_dump(stanzas | STANZAS))
    markets = yaml.safe_load((folder / "markets.yaml").read_text())
    markets["instruments"]["ETH"]["venues"] = list(VENUES)
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    monkeypatch.setenv("MAXXIT_CONFIG_DIR", str(folder))
    forget_configuration()
    yield
    monkeypatch.undo()
    forget_configuration()


def forget_configuration() -> None:
    """Read the files again."""
    for cached in (_read, instruments._markets, instruments.all_instruments, policies.venues, wiring.venue):
        cached.cache_clear()


@pytest.fixture
def chain(time: RecordedClock) -> Iterator[Lab]:
    with safe.chain_at(T0) as lab:
        yield lab


class Market:
    """One price of ETH: in our quote, on the chain and at each fake, at the same moment."""

    def __init__(self, time: RecordedClock, lab: Lab, venues: dict[str, Any]) -> None:
        self.time, self.lab, self.venues = time, lab, venues
        venues["alpaca"].server.broker.time = lambda: time.now
        for name in ("coinbase", "hyperliquid"):
            venues[name].server.exchange.time = lambda: time.now

    def moves(self, usd: str, **later: float) -> None:
        """The price changes after this time."""
        self.time.move(**later)
        self.lab.advance(int(timedelta(**later).total_seconds()))
        self.lab.world.move_price("WETH", D(usd))
        self.venues["alpaca"].server.broker.price("ETH/USD", usd)
        self.venues["coinbase"].server.exchange.price("ETH", usd)
        self.venues["hyperliquid"].server.exchange.price("ETH", usd)
        make.price("ETH", usd)


@pytest.fixture
def venues(
    config: None, db: None, chain: Lab, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> Iterator[dict[str, Any]]:
    """Name -> the adapter as it is opened, all five with 10,000 of cash in each account."""
    brokers = alpaca.fresh()
    brokers.broker.price("ETH/USD", "2000")
    with safe.worker_of(chain, monkeypatch):
        opened: dict[str, Any] = {
            "paper": PaperVenue(slippage_bps=5, fee_bps=10, depth_usd=100_000),
            "safe": SafeVenue(chain="local", slippage_bps=50),
            "alpaca": alpaca.KnownKeys(brokers, stocks=()),
            "coinbase": coinbase.KnownKeys(coinbase.fresh()),
            "hyperliquid": hyperliquid.KnownKeys(hyperliquid.fresh()),
        }
        monkeypatch.setattr(wiring.VENUES, "open", lambda adapter, **options: opened[adapter])
        wiring.venue.cache_clear()
        yield opened
    wiring.venue.cache_clear()


def follow(venue: str, venues: dict[str, Any], lab: Lab) -> Deployment:
    """Let an agent of this venue follow the author, with an account that holds cash."""
    agent = make.agent(venue=venue, tokens=["ETH"])
    author = CtAccount.objects.filter(x_username="author").first() or make.account(username="author")
    Subscription.objects.create(agent=agent, account=author)
    make.open_gate(venue)
    if venue == "safe":
        world = lab.world
        SafePlan.objects.create(
            chain_id=world.chain_id, safe=world.safe, module=world.module, created_at=clock.now(),
            verified_at=clock.now(), **verify.as_plan(world.policy(**safe.POLICY), world.rules()),
        )  # fmt: skip
        deployment = make.deployment(
            agent, funded=False, account=world.safe, safe_wallet=world.safe, module_address=world.module,
            chain_id=world.chain_id, module_enabled=True, verified_at=clock.now(),
        )  # fmt: skip
        reconcile_safes()
        return deployment
    deployment = make.deployment(agent, funded=False, account=f"{venue}:1")
    if venue == "alpaca":
        venues[venue].server.broker.account(deployment.account, cash=D(10_000))
    elif venue == "coinbase":
        venues[venue].server.exchange.portfolio(deployment.account).held["USD"] = D(10_000)
    elif venue == "hyperliquid":
        venues[venue].account(deployment.account, cash=D(10_000))
    assert fund(deployment)
    return deployment


def screen(followers: dict[str, Deployment]) -> list[dict[str, str]]:
    """What the platform knows of each venue's trade, a row each."""
    drifts = reconcile.drifts()
    rows = []
    for venue, deployment in followers.items():
        position = Position.objects.get(deployment=deployment)
        orders = list(
            Order.objects.filter(deployment=deployment).order_by("pk").values_list("state", flat=True)
        )
        rows.append(
            {
                "venue": venue,
                "orders": " ".join(orders),
                "position": f"{position.state} ({position.exit_reason})",
                "bought": f"{position.quantity:.5f} at {position.entry_price:.2f}",
                "sold at": f"{position.exit_price or 0:.2f}",
                "PnL": f"{position.realised_pnl or 0:.2f}",
                "differs": " ".join(name for name in drifts if deployment.account in name) or "nothing",
            }
        )
    return rows


def shown(rows: list[dict[str, str]]) -> str:
    """The rows as a table."""
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = ["  ".join(name.ljust(width[name]) for name in rows[0])]
    lines += ["  ".join(value.ljust(width[name]) for name, value in row.items()) for row in rows]
    return "\n".join(lines)


def test_a_post_is_traded_and_closed_at_five_venues_and_the_day_ends_reconciled(
    venues: dict[str, Any],
    chain: Lab,
    time: RecordedClock,
    tmp_path: Path,
    model: FakeModel,
    empty_cache: None,
) -> None:
    market = Market(time, chain, venues)
    make.price("ETH", "2000")
    make.hourly_bars("ETH", make.calm(2000.0), until=clock.now())
    followers = {name: follow(name, venues, chain) for name in VENUES}
    posts = tmp_path / "posts.jsonl"
    ident = "940000000000000001"
    post = {
        "id": ident,
        "username": "author",
        "created_at": clock.now().isoformat(),
        "text": "buying $ETH here",
    }
    posts.write_text(json.dumps(post) + "\n")
    model.reads(ident, "ETH")

    ingest({"jsonl": JsonlSource([str(posts)])})
    classify(policy().classify)
    generate(policy().generate)
    execute_pass()
    monitor_pass()
    assert set(Position.objects.values_list("state", flat=True)) == {"open"}, shown(screen(followers))
    market.moves("2600", minutes=10)
    for _ in range(3):
        at_venue.watch()  # Hyperliquid's own target has filled: it is ours, once
        exit_pass()
        book_pass()
    take_points()

    time.move(days=1)
    steps = list(end_of_day(T0.date()))
    rows = screen(followers)
    print("\n" + shown(rows), *(f"{step.name}: {step.detail}" for step in steps), sep="\n")
    assert [(row["venue"], row["orders"], row["position"], row["differs"]) for row in rows] == [
        (name, "filled filled", "closed (take_profit)", "nothing") for name in VENUES
    ]
    assert all(D(row["PnL"]) > 0 for row in rows)
    assert ledger.drift() == {}
    assert [step.name for step in steps if not step.ok] == []
