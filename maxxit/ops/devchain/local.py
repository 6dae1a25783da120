"""The local chain of `make up`: anvil with the contracts, a demo user's Safe with an agent, and a moving market.

`manage.py localchain` runs this as one process under the supervisor. Pools and feeds follow the demo's quotes, as
arbitrage would move them, so that stops and targets are hit on chain. State and addresses are kept in `.maxxit/chain/`
and survive a restart. The executor's key is one of anvil's public test keys.
"""

import os
import time
from decimal import Decimal
from pathlib import Path

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Min

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import MaxxitError
from maxxit.embedded.processes import kept_secret, port_taken
from maxxit.market import quotes
from maxxit.market.venues import venue_policy
from maxxit.ops.devchain import perps
from maxxit.ops.devchain.anvil import Anvil, free_port, is_whole, start_anvil
from maxxit.ops.devchain.follower import follow_all, open_gate
from maxxit.ops.devchain.home import available, signing_environ
from maxxit.ops.devchain.keeper import Keeper
from maxxit.ops.devchain.world import WORLD_FILE, World, ensure_world, local_key
from trading import wiring
from trading.chain.chains import LOCAL_CHAIN_ID, RPC_FILE, SYMBOLS
from trading.chain.models import SafePlan, Signer
from trading.chain.signer import KEYSTORE, PASSWORD_FILE, write_keystore
from trading.chain.states import IN_FLIGHT
from trading.venues.safe import safes, verify
from trading.wiring import PLAY_MONEY

log = structlog.get_logger(__name__)

AGENT, VENUE = "Safe Follower", "safe"
STEP_SECONDS = 1.0
MOVE = Decimal("0.001")
"""The least change of a price, as a fraction, that moves pools and feeds: less is not worth a pool's fee."""
FEED_SECONDS = 600.0
"""Maximum seconds between updates of a feed with an unchanged price: the policy accepts none older than an hour."""
ITERATIONS = 10_000
"""Key-derivation iterations of the keystore; low, because the key in it is public."""


def ensure_keystore(data_dir: Path) -> None:
    """Write the keystore of the local executor unless it exists."""
    paths = signing_environ(data_dir)
    keystore, password = Path(paths[KEYSTORE]), Path(paths[PASSWORD_FILE])
    if keystore.exists() and password.exists():
        return
    write_keystore(keystore, local_key("executor"), kept_secret(password, 24), iterations=ITERATIONS)


def start(data_dir: Path) -> Anvil:
    """Start anvil with its saved state, on its previous port where that is free.

    A damaged state is set aside, and the chain begins anew.
    """
    home = data_dir / "chain"
    home.mkdir(parents=True, exist_ok=True)
    kept = data_dir / RPC_FILE
    last = int(kept.read_text().rpartition(":")[2]) if kept.exists() else 0
    port = last if last and not port_taken(last) else free_port()
    state = home / "anvil.json"
    if state.exists() and not is_whole(state):
        log.warning("local_chain_damaged", state=str(state), moved_to=f"{state}.damaged")
        state.replace(f"{state}.damaged")
    node = start_anvil(port, state=state)
    kept.write_text(node.url)
    return node


def open_world(node: Anvil, data_dir: Path) -> World:
    """Load or deploy the contracts at the present prices, with the executor's nonce raised to the database's.

    A killed chain may have lost its last blocks. Nonces of transactions in flight stay free: they are sent again.
    """
    path = data_dir / WORLD_FILE
    world = ensure_world(node.url, path, {name: price for name, price in market().items() if price > 0})
    address = world.accounts["executor"]
    row = Signer.objects.filter(chain_id=LOCAL_CHAIN_ID, address=address).first()
    on_chain = int(world.rpc("eth_getTransactionCount", address, "latest"), 16)
    if row is not None:
        first = row.transactions.filter(state__in=IN_FLIGHT).aggregate(first=Min("nonce"))["first"]
        wanted = row.next_nonce if first is None else first
        if on_chain < wanted:
            world.rpc("anvil_setNonce", address, hex(wanted))
    return world


def market() -> dict[str, Decimal]:
    """Return the newest quotes in USD by the local chain's tokens."""
    wanted = {symbol: token for token, symbol in SYMBOLS.items()}
    newest = quotes.latest(list(wanted), closing=True)
    return {wanted[symbol]: quote.price for symbol, quote in newest.items()}


@transaction.atomic
def enter_demo(world: World) -> Deployment:
    """Create the agent on the demo user's Safe, following every account, and its plan. Safe to repeat.

    The gate is opened only where the venue `safe` is on the local chain.
    """
    deployment = follow_all(
        world,
        AGENT,
        venue=VENUE,
        exit_preset="moderate",
        account=world.safe,
        safe=world.safe,
        module=world.module,
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
    if wiring.money_at_stake(venue_policy(VENUE)) == PLAY_MONEY:
        open_gate(VENUE)
    return deployment


class Arbitrage:
    """Moves pools and feeds to the quotes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prices: dict[str, Decimal] = {}
        self.updated: dict[str, float] = {}

    def step(self) -> list[str]:
        """Move changed prices and refresh old feeds; returns the tokens that were updated."""
        changed = []
        for token, price in market().items():
            stale = time.monotonic() - self.updated.get(token, float("-inf")) > FEED_SECONDS
            last = self.prices.get(token)
            if last is not None and abs(price - last) < last * MOVE and not stale:
                continue
            self.world.move_price(token, price)
            self.prices[token], self.updated[token] = price, time.monotonic()
            changed.append(token)
        return changed


def set_up_demo() -> bool:
    """Deploy the contracts and create the demo's Safe deployment; False where it exists or anvil is missing."""
    known = Deployment.objects.filter(agent__name=AGENT, agent__owner=None, verified_at__isnull=False)
    if not available() or known.exists():
        return False
    data_dir = Path(settings.DATA_DIR)
    ensure_keystore(data_dir)
    with start(data_dir) as node:
        world = open_world(node, data_dir)
        differences = safes.check(enter_demo(world))
        enter_perps(world)
        return not differences


def enter_perps(world: World) -> None:
    """Set up the demo of perpetual futures. What goes wrong there does not end the spot demo."""
    try:
        log.info("local_perps", safe=world.perp_safe, differences=perps.enter_demo(world))
    except Exception as error:
        log.exception("local_perps_failed", safe=world.perp_safe, error=str(error))


def serve() -> None:
    """Run the chain, move its market and execute its orders on GMX until the process is stopped."""
    data_dir = Path(settings.DATA_DIR)
    ensure_keystore(data_dir)
    with start(data_dir) as node:
        world = open_world(node, data_dir)
        deployment = enter_demo(world)
        arbitrage, keeper = Arbitrage(world), Keeper(world)
        arbitrage.step()
        differences = safes.check(deployment)
        log.info("local_chain", url=node.url, safe=world.safe, module=world.module, differences=differences)
        enter_perps(world)
        while node.process.poll() is None and os.getppid() != 1:
            try:
                arbitrage.step()
                for receipt in keeper.step():
                    log.info("gmx_keeper", transaction=receipt["transactionHash"])
            except (MaxxitError, RuntimeError) as error:
                log.warning("market_not_moved", error=str(error))
            time.sleep(STEP_SECONDS)
