"""A Safe with the PerpModule on a chain with the double of GMX, its keeper, and the venue on it."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.conf import settings

from agents.models import Deployment
from maxxit.core import clock
from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.keeper import Keeper
from maxxit.ops.devchain.world import WORLD_FILE, Builder, World, local_key, transact
from tests import builders as make
from tests.chain.lab import USDC, Lab
from tests.chain.sending.safe_trader import renew_helpers
from trading import wiring
from trading.chain.chains import CONTRACTS_FILE, ContractsStanza
from trading.chain.models import ChainTransaction, SafePlan
from trading.chain.signer import write_keystore
from trading.venues.base import Prepared, Report, Request
from trading.venues.gmx import verify
from trading.venues.gmx.contract import module as p
from trading.venues.gmx.venue import GmxVenue

D = Decimal
PASSWORD = "correct horse battery staple"
OPTIONS: dict[str, Any] = {"chain": "local", "slippage_bps": 50, "shorts": True, "max_leverage": Decimal(10)}


def write_configuration(parent: Path) -> Path:
    """Copy the shipped configuration and add the venue `gmx`, which lists ETH and BTC; return the folder."""
    folder = parent / "config"
    shutil.copytree(Path("config"), folder)
    options = {name: value for name, value in OPTIONS.items() if name not in ("shorts", "max_leverage")}
    stanza = {"adapter": "gmx", "shorts": True, "max_leverage": 10, "paper": False, "options": options}
    venues = yaml.safe_load((folder / "venues.yaml").read_text())
    (folder / "venues.yaml").write_text(yaml.safe_dump(venues | {"gmx": stanza}))
    markets = yaml.safe_load((folder / "markets.yaml").read_text())
    for symbol in ("ETH", "BTC"):
        markets["instruments"][symbol]["venues"].append("gmx")
    (folder / "markets.yaml").write_text(yaml.safe_dump(markets))
    return folder


class PerpsLab(Lab):
    """One world on one anvil with the module enabled in the demo Safe and a policy set."""

    def __init__(self, world: World, **policy: Any) -> None:
        gmx = world.gmx
        self.perps = Builder(world.rpc_url).local(
            "PerpModule",
            ["address"] * 7,
            [
                world.usdc, gmx.wrapped_native, gmx.exchange_router, gmx.order_vault, gmx.data_store, gmx.role_store,
                world.sequencer_feed,
            ],
        )  # fmt: skip
        self.keeper = Keeper(world)
        self.market = gmx.markets["WETH"]
        self.changes = policy
        world.rpc("anvil_autoImpersonateAccount", True)
        world.rpc("anvil_setBalance", world.safe, hex(10**20))
        transact(world.rpc, world.safe, world.safe, encode_call("enableModule(address)", self.perps))
        transact(
            world.rpc,
            world.safe,
            self.perps,
            p.set_policy_data(self.perps_policy(world), self.rules_of(world)),
        )
        super().__init__(world)

    def perps_policy(self, world: World, **changes: Any) -> p.Policy:
        """10 to 2,000 USDC a trade at most tenfold."""
        accounts = world.accounts
        values: dict[str, Any] = {
            "executor": accounts["executor"], "guardian": accounts["guardian"],
            "fee_receiver": accounts["fee_receiver"], "profit_receiver": accounts["profit_receiver"],
            "min_collateral": 10 * USDC, "max_collateral": 2_000 * USDC, "max_leverage_bps": 100_000,
            "max_notional": 20_000 * USDC, "daily_collateral": 100_000 * USDC, "daily_notional": 1_000_000 * USDC,
            "trades_per_day": 500, "cooldown": 0, "slippage_bps": 100, "max_execution_fee": 10**17,
            "loss_budget": 9_000 * USDC, "total_loss_budget": 90_000 * USDC,
        }  # fmt: skip
        return p.Policy(**values | self.changes | changes)

    def rules_of(self, world: World) -> list[p.MarketRule]:
        """Both markets, both sides."""
        return [
            p.MarketRule(world.gmx.markets[token.symbol], token.decimals, token.feed, 86_400)
            for token in world.tokens
        ]

    def sign(self, **changes: Any) -> None:
        """The Safe sets the policy with changes."""
        policy = self.perps_policy(self.world, **changes)
        transact(self.rpc, self.safe, self.perps, p.set_policy_data(policy, self.rules_of(self.world)))

    def contracts(self) -> ContractsStanza:
        """The chain's addresses as `make up` writes them, with the module."""
        known = self.world.contracts()
        gmx = self.world.gmx.contracts(self.world.tokens, self.perps)
        return ContractsStanza.model_validate(known.model_dump() | {"gmx": gmx.model_dump()})

    def trade_state(self, trade: bytes) -> p.Trade | None:
        """A trade as the module stores it."""
        answer = self.rpc(
            "eth_call", {"to": self.perps, "data": "0x" + p.trade_data(self.safe, trade).hex()}, "latest"
        )
        return p.decode_trade(bytes.fromhex(answer[2:]))

    def perps_logs(self) -> list[p.Log]:
        """Every event that the module has ever emitted."""
        found = self.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.perps})
        return p.decode_logs(found, self.perps)

    def ether(self, account: str) -> int:
        return int(self.rpc("eth_getBalance", account, "latest"), 16)

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", hex(blocks))

    def later(self, seconds: int) -> None:
        """Let time pass on the chain; feeds are refreshed."""
        self.advance(seconds)


def store_plan(lab: PerpsLab) -> SafePlan:
    """The policy as the Safe's owner signed it and the chain confirmed it."""
    return SafePlan.objects.update_or_create(
        chain_id=lab.world.chain_id,
        safe=lab.safe,
        defaults={
            "module": lab.perps,
            "created_at": clock.now(),
            "verified_at": clock.now(),
            **verify.as_plan(lab.perps_policy(lab.world), lab.rules_of(lab.world)),
        },
    )[0]


def verified(lab: PerpsLab, **values: Any) -> Deployment:
    """A deployment as `manage.py perps verify` leaves it."""
    return make.deployment(
        make.agent(venue="gmx"), funded=False, account=f"gmx:{lab.safe}", safe_wallet=lab.safe,
        module_address=lab.perps, chain_id=lab.world.chain_id, module_enabled=True, verified_at=clock.now(), **values,
    )  # fmt: skip


class PerpsTrader:
    """The Safe, its venue, and requests for it."""

    def __init__(self, lab: PerpsLab, **options: Any) -> None:
        self.lab, self.world = lab, lab.world
        self.venue = GmxVenue(**OPTIONS | options)
        self.account = f"gmx:{lab.safe}"
        self.deployment = Deployment.objects.get(account=self.account)
        self.signal = 0

    def venue_of(self) -> GmxVenue:
        """The venue that the platform opens for itself."""
        opened = wiring.venue("gmx")
        assert isinstance(opened, GmxVenue)
        return opened

    def close(self) -> None:
        for one in self.venue.chain.endpoints:
            one.close()
        renew_helpers()

    def request(
        self, purpose: str = "open", quantity: str = "1", side: str = "buy", **changes: Any
    ) -> Request:
        """An order for ETH at the feed's price, fivefold; each open is a new signal's."""
        self.signal += purpose == "open"
        values: dict[str, Any] = {
            "client_order_id": f"mx-{uuid4().hex[:24]}",
            "account": self.account,
            "symbol": "ETH",
            "side": side,
            "purpose": purpose,
            "quantity": D(quantity),
            "reference_price": self.world.price("WETH"),
            "deadline": clock.now() + timedelta(minutes=5),
            "trade": f"1/{self.signal}",
            "leverage": D(5),
        }
        return Request(**values | changes)

    def send(self, request: Request) -> str:
        """Prepare and send; the reference."""
        prepared: Prepared = self.venue.prepare(request)
        self.venue.send(prepared)
        return prepared.ref

    def find(self, ref: str) -> Report:
        """What the venue knows of an order; what it sent meanwhile is in a block, or waits for more than a second."""
        found = self.venue.find(ref)
        assert found is not None
        ends = time.monotonic() + 1
        while int(self.lab.rpc("txpool_status")["pending"], 16) and time.monotonic() < ends:
            time.sleep(0.005)
        return found

    def enter(self, **changes: Any) -> str:
        """Open a position that the keeper executes; the reference."""
        ref = self.send(self.request(**changes))
        self.find(ref)
        self.keep()
        assert self.find(ref).state == "filled"
        return ref

    def keep(self) -> list[dict[str, Any]]:
        """The keeper comes once."""
        return self.lab.keeper.step()

    def tx(self, ref: str) -> ChainTransaction:
        return ChainTransaction.objects.get(idempotency_key=ref)

    def held(self) -> dict[str, Decimal]:
        return {asset: amount for asset, amount in self.venue.balances(self.account).items() if amount}


@contextmanager
def worker_of(lab: PerpsLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this process what a worker that signs on the chain has: its addresses, the executor's key, an open gate."""
    with tempfile.TemporaryDirectory() as folder:
        write_keystore(Path(folder) / "executor.json", local_key("executor"), PASSWORD, iterations=1_000)
        lab.world.save(Path(folder) / WORLD_FILE)
        (Path(folder) / CONTRACTS_FILE).write_text(lab.contracts().model_dump_json())
        monkeypatch.setattr(settings, "DATA_DIR", Path(folder))
        monkeypatch.setenv("EXECUTOR_KEYSTORE", str(Path(folder) / "executor.json"))
        monkeypatch.setenv("EXECUTOR_PASSWORD", PASSWORD)
        monkeypatch.setenv("MAXXIT_LOCAL_RPC", lab.world.rpc_url)
        make.open_gate("gmx")
        yield
