"""The local chain of `make up`: anvil with the world on it, the demo user's Safe at work, and a market that moves.

`manage.py localchain` runs this as one process under the supervisor. Pools and feeds follow the demo's quotes, as
arbitrage would make them, so that stops and targets are really hit on chain. State and addresses stand in
`.maxxit/chain/` and survive a restart. The executor's key is anvil's: worth nothing anywhere else.
"""

import os
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import structlog
from django.conf import settings
from django.db import transaction

from agents.models import WEIGHTS, Agent, CtAccount, Deployment, Subscription
from agents.states import AgentState
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.embedded.processes import kept_secret, port_taken
from maxxit.events.record import advance
from maxxit.market import quotes
from maxxit.market.venues import venue_policy
from maxxit.ops.devchain.anvil import Anvil, AnvilError, find_anvil, free_port, start_anvil
from maxxit.ops.devchain.world import WORLD_FILE, World, ensure_world, local_key
from trading import gate, wiring
from trading.chain.chains import LOCAL_CHAIN_ID, RPC_FILE, SYMBOLS
from trading.chain.models import SafePlan, Signer
from trading.chain.signer import KEYSTORE, PASSWORD_FILE, write_keystore
from trading.models import Gate
from trading.venues.safe import safes, verify
from trading.wiring import PLAY_MONEY

log = structlog.get_logger(__name__)

AGENT = "Safe Follower"
STEP_SECONDS = 1.0
FEED_SECONDS = 600.0
"""A feed is refreshed this often even where its price stands still: the policy takes none older than an hour."""
ITERATIONS = 10_000
"""Of the keystore's password; it protects a key that the whole world has."""


def available() -> bool:
    """Whether a local chain can be run here."""
    try:
        find_anvil()
    except AnvilError:
        return False
    return True


def signing_environ(data_dir: Path) -> dict[str, str]:
    """What the executing worker, and only that one, gets to find the local key."""
    home = data_dir / "chain"
    return {KEYSTORE: str(home / "executor.json"), PASSWORD_FILE: str(home / "executor.password")}


def keep_key(data_dir: Path) -> None:
    """Make the keystore of the local executor, once."""
    paths = signing_environ(data_dir)
    keystore, password = Path(paths[KEYSTORE]), Path(paths[PASSWORD_FILE])
    if keystore.exists() and password.exists():
        return
    write_keystore(keystore, local_key("executor"), kept_secret(password, 24), iterations=ITERATIONS)


def start(data_dir: Path) -> Anvil:
    """Anvil with its kept state, on the port of the last time where that is free."""
    home = data_dir / "chain"
    home.mkdir(parents=True, exist_ok=True)
    kept = data_dir / RPC_FILE
    last = int(kept.read_text().rpartition(":")[2]) if kept.exists() else 0
    port = last if last and not port_taken(last) else free_port()
    node = start_anvil(port, state=home / "anvil.json")
    kept.write_text(node.url)
    return node


def open_world(node: Anvil, data_dir: Path) -> World:
    """The world of the last time, or a new one at today's prices, with the executor's nonces where ours stand."""
    path = data_dir / WORLD_FILE
    world = ensure_world(node.url, path, {name: price for name, price in market().items() if price > 0})
    address = world.accounts["executor"]
    row = Signer.objects.filter(chain_id=LOCAL_CHAIN_ID, address=address).first()
    on_chain = int(world.rpc("eth_getTransactionCount", address, "latest"), 16)
    if row is not None and on_chain < row.next_nonce and not row.transactions.filter(state="signed").exists():
        world.rpc("anvil_setNonce", address, hex(row.next_nonce))  # a new chain under an old database
    return world


def market() -> dict[str, Decimal]:
    """The demo's newest prices in USD, by the local world's tokens."""
    wanted = {symbol: token for token, symbol in SYMBOLS.items()}
    found = quotes.latest(list(wanted), closing=True)
    return {wanted[symbol]: quote.price for symbol, quote in found.items()}


@transaction.atomic
def enter_demo(world: World) -> Deployment:
    """Create the agent on the demo user's Safe, following everybody, once.

    Its gate opens only where the venue `safe` is on the local chain.
    """
    agent, new = Agent.objects.get_or_create(
        name=AGENT,
        defaults={
            "venue": "safe",
            "tokens": list(SYMBOLS.values()),
            "sizing_preset": "moderate",
            "exit_preset": "aggressive",
            "min_confidence": Decimal("0.4"),
            **{f"weight_{name}": 100 if name == "tweet" else 10 for name in WEIGHTS},
        },
    )
    if new:
        advance(agent, AgentState.ACTIVE)
    followed = [Subscription(agent=agent, account=account) for account in CtAccount.objects.order_by("pk")]
    Subscription.objects.bulk_create(followed, ignore_conflicts=True)
    deployment, _ = Deployment.objects.get_or_create(
        agent=agent,
        account=world.safe,
        defaults={
            "safe_wallet": world.safe,
            "user_wallet": world.accounts["owner"],
            "chain_id": world.chain_id,
            "module_address": world.module,
        },
    )
    signed = verify.as_plan(world.policy(), world.rules())
    known = verify.plan_in_force(world.chain_id, world.safe)
    if known is None or (known.policy, known.rules) != (signed["policy"], signed["rules"]):
        SafePlan.objects.update_or_create(
            chain_id=world.chain_id,
            safe=world.safe,
            verified_at=None,
            defaults={"module": world.module, "created_at": clock.now(), **signed},
        )
    if (
        not Gate.objects.filter(venue="safe").exists()
        and wiring.money_at_stake(venue_policy("safe")) == PLAY_MONEY
    ):
        until = clock.now() + timedelta(days=365)
        gate.set_dry_run("safe", False, by="demo", reason="the demo trades on a local chain")
        gate.approve("safe", by="demo", until=until, reason="the demo trades on a local chain")
    return deployment


class Arbitrage:
    """Pools and feeds follow the quotes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stand: dict[str, Decimal] = {}
        self.fed: dict[str, float] = {}

    def step(self) -> list[str]:
        """Move what has moved, and keep feeds fresh; returns the tokens that were touched."""
        touched = []
        for token, price in market().items():
            stale = time.monotonic() - self.fed.get(token, float("-inf")) > FEED_SECONDS
            if self.stand.get(token) == price and not stale:
                continue
            self.world.move_price(token, price)
            self.stand[token], self.fed[token] = price, time.monotonic()
            touched.append(token)
        return touched


def settle_in() -> bool:
    """Build the world and enter the demo before the first post is read; False where it stands or cannot be had."""
    known = Deployment.objects.filter(agent__name=AGENT, verified_at__isnull=False)
    if not available() or known.exists():
        return False
    data_dir = Path(settings.DATA_DIR)
    keep_key(data_dir)
    with start(data_dir) as node:
        return not safes.check(enter_demo(open_world(node, data_dir)))


def serve() -> None:
    """Start the chain, enter the demo, and let the market move until this process is told to stop."""
    data_dir = Path(settings.DATA_DIR)
    keep_key(data_dir)
    with start(data_dir) as node:
        world = open_world(node, data_dir)
        deployment = enter_demo(world)
        arbitrage = Arbitrage(world)
        arbitrage.step()
        wrong = safes.check(deployment)
        log.info("local_chain", url=node.url, safe=world.safe, module=world.module, differences=wrong)
        while node.process.poll() is None and os.getppid() != 1:
            try:
                arbitrage.step()
            except (MaxxitError, RuntimeError) as error:
                log.warning("market_not_moved", error=str(error))
            time.sleep(STEP_SECONDS)
