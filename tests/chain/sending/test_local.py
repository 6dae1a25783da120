"""The local chain of `make up`: entered once, followed by the market, and found again after a restart."""

from decimal import Decimal
from pathlib import Path

import pytest

from agents.models import Deployment
from maxxit.core import clock
from maxxit.events import wake
from maxxit.ops.devchain import local
from tests import builders as make
from tests.test_five_venues import forget_configuration
from trading import ledger, reconcile, wiring
from trading.chain.chains import LOCAL_CHAIN_ID
from trading.chain.models import ChainTransaction, SafePlan, Signer
from trading.models import Gate
from trading.venues.safe import safes

pytestmark = [pytest.mark.chain, pytest.mark.django_db(transaction=True)]

D = Decimal


@pytest.fixture
def home(tmp_path: Path, settings: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.DATA_DIR = tmp_path  # type: ignore[attr-defined]
    for name, value in local.signing_environ(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MAXXIT_LOCAL_RPC", raising=False)
    wiring.venue.cache_clear()
    return tmp_path


def test_the_demo_safe_is_verified_and_its_market_moves_and_it_survives_a_restart(home: Path) -> None:
    make.price("ETH", "3100")
    make.price("BTC", "64000")
    local.ensure_keystore(home)
    with wake.collected(), local.start(home) as node:
        world = local.open_world(node, home)
        assert world.price("WETH") == D(3100)
        deployment = local.enter_demo(world)
        assert safes.check(deployment) == []
        deployment.refresh_from_db()
        assert (deployment.state, deployment.module_enabled) == ("active", True)
        assert ledger.balances(deployment.pk) == {"USDC": D(10_000)}
        market = local.Arbitrage(world)
        assert set(market.step()) == {"WETH", "WBTC"}
        assert market.step() == []
        make.price("ETH", "3103")  # less than a tenth of a percent
        assert market.step() == []
        make.price("ETH", "3150.25")
        assert market.step() == ["WETH"]
        assert world.price("WETH") == D("3150.25")
        assert world.contracts().gmx is not None
        assert local.Keeper(world).step() == []
        safe, url = world.safe, node.url
        world.rpc.close()
    with wake.collected(), local.start(home) as node:
        again = local.open_world(node, home)
        assert (again.safe, node.url) == (safe, url)
        assert local.enter_demo(again).pk == deployment.pk
        wiring.venue.cache_clear()
        assert safes.check(Deployment.objects.get()) == []
        assert reconcile.drifts() == {}
        again.rpc.close()
    wiring.venue.cache_clear()


def test_the_demos_other_safe_trades_perpetual_futures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", "demo")
    forget_configuration()
    make.price("ETH", "3100")
    make.price("BTC", "64000")
    local.ensure_keystore(home)
    try:
        with wake.collected(), local.start(home) as node:
            world = local.open_world(node, home)
            assert local.perps.enter_demo(world) == []
            deployment = Deployment.objects.get(account=f"gmx:{world.perp_safe}")
            assert deployment.verified_at is not None
            assert ledger.balances(deployment.pk) == {"USDC": D(1_000)}
            assert local.perps.enter_demo(world) == [], "nothing is signed again"
            assert SafePlan.objects.count() == 1
            world.rpc.close()
    finally:
        monkeypatch.undo()
        forget_configuration()
    wiring.venue.cache_clear()


def test_perpetual_futures_that_cannot_be_set_up_do_not_end_the_spot_demo(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(world: object) -> None:
        raise RuntimeError("the module refuses the policy")

    make.price("ETH", "3100")
    make.price("BTC", "64000")
    monkeypatch.setattr(local.perps, "enter_demo", broken)
    with wake.collected():
        assert local.set_up_demo()

    assert Deployment.objects.get().verified_at is not None
    wiring.venue.cache_clear()


@pytest.mark.parametrize(("state", "raised"), [("broadcast", 3), ("mined", 3), ("final", 5)])
def test_a_chain_that_lost_its_last_blocks_leaves_the_nonces_of_what_is_in_flight(
    home: Path, state: str, raised: int
) -> None:
    local.ensure_keystore(home)
    with wake.collected(), local.start(home) as node:
        world = local.open_world(node, home)
        address = world.accounts["executor"]
        signer = Signer.objects.create(chain_id=LOCAL_CHAIN_ID, address=address, next_nonce=5)
        ChainTransaction.objects.create(
            idempotency_key="lost", chain_id=LOCAL_CHAIN_ID, signer=signer, nonce=3, state=state, terms={},
            deadline=clock.now(), created_at=clock.now(),
        )  # fmt: skip
        local.open_world(node, home).rpc.close()
        assert int(world.rpc("eth_getTransactionCount", address, "latest"), 16) == raised
        world.rpc.close()


def test_the_key_is_made_once_and_only_the_owner_may_read_it(home: Path) -> None:
    local.ensure_keystore(home)
    before = (home / "chain" / "executor.json").read_text()
    local.ensure_keystore(home)
    for name in ("executor.json", "executor.password"):
        assert (home / "chain" / name).stat().st_mode & 0o077 == 0
    assert (home / "chain" / "executor.json").read_text() == before


def test_the_demo_opens_no_gate_where_the_venue_is_on_another_chain(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.price("ETH", "3100")
    make.price("BTC", "64000")
    monkeypatch.setattr(wiring, "money_at_stake", lambda venue: "REAL MONEY")
    local.ensure_keystore(home)
    with wake.collected(), local.start(home) as node:
        world = local.open_world(node, home)
        local.enter_demo(world)
        world.rpc.close()

    assert not Gate.objects.filter(venue="safe").exists()


def test_a_state_that_a_kill_cut_off_is_set_aside_and_the_chain_begins_anew(home: Path) -> None:
    make.price("ETH", "3100")
    make.price("BTC", "64000")
    state = home / "chain" / "anvil.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"block": {"number": "0x1", "coin')
    local.ensure_keystore(home)
    with wake.collected(), local.start(home) as node:
        world = local.open_world(node, home)
        assert world.price("WETH") == D(3100)
        world.rpc.close()

    assert state.with_name("anvil.json.damaged").read_text().startswith('{"block"')
