"""`python -m tests.chain.perps.crashes --runs 200`: workers killed at each step of a position at GMX, to its end.

With `--planted NAME` every worker has that bug, and the runs must find it (`BUGS`).

Each run is one entry of one Safe, through the same misbehaving network and the same kills as `tests.chain.crashes`: the
order at GMX, what the keeper makes of it, its booking, and where a position was opened its end by the stop. The keeper
comes at once or late, executes the stop or freezes it, cancels, or never comes. Afterwards: one request, one intent and
at most one position; the order ended as the keeper made it end; the position is closed once; GMX holds nothing of the
Safe; the ledger equals the chain.
"""

import argparse
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.chain import crashes
from tests.chain.crashes import Bench

CREATING = tuple(crashes.STEPS)[:14]
STEPS = {
    "before reading GMX": ("trading.venues.gmx.scan", "read_new", "before"),
    "after reading GMX": ("trading.venues.gmx.scan", "read_new", "after"),
    "while keeping": ("trading.venues.gmx.scan", "_book", "after"),
    "kept, before commit": ("trading.venues.gmx.scan", "_keep", "after"),
    "before cancelling": ("trading.venues.gmx.cancellations", "cancel", "before"),
    "cancellation planned": ("trading.venues.gmx.cancellations", "_plan", "after"),
    "cancelled": ("trading.venues.gmx.cancellations", "cancel", "after"),
    "before opening a position": ("positions.book", "open_positions", "before"),
    "position opened": ("positions.book", "open_positions", "after"),
    "before adopting an exit": ("positions.exits.at_venue", "adopt", "before"),
    "exit adopted": ("positions.exits.at_venue", "adopt", "after"),
    "exit claimed": ("positions.exits.sweep", "_claim", "after"),
    "exits released": ("trading.venues.gmx.venue:GmxVenue", "release", "after"),
    "position closed": ("positions.book", "_end", "after"),
}
"""Steps besides those of `tests.chain.crashes`."""
BOOKING = (*tuple(crashes.STEPS)[14:], *STEPS)
LATE_SECONDS, EXPIRED_SECONDS = 250, 310
LEVERAGE, BELOW_STOP = Decimal(5), Decimal("0.92")
LIFE_SECONDS, QUIET_SECONDS, LIVES, QUIET_LIVES, PLANTED_QUIET_LIVES = 3.0, 6.0, 2, 15, 5


@dataclass(frozen=True)
class Mode:
    """What the keeper does with the entry, and with the stop of the position."""

    ends: str
    """The state in which the entry ends."""
    late: int = 0
    """Seconds until the keeper comes."""
    freezes: bool = False


MODES = {
    "at once": Mode("filled"),
    "late": Mode("filled", late=LATE_SECONDS),
    "freezes": Mode("filled", freezes=True),
    "cancels": Mode("rejected"),
    "never": Mode("canceled", late=EXPIRED_SECONDS),
}


@contextlib.contextmanager
def chain(data: Path) -> Iterator[Bench]:
    """The double of GMX behind the proxy, and the configuration with the venue `gmx`."""
    from maxxit.ops.devchain.anvil import free_port, start_anvil
    from maxxit.ops.devchain.world import build_world, local_key
    from tests.trading.venues.gmx.world import PerpsLab, write_configuration
    from trading.chain.chains import CONTRACTS_FILE
    from trading.chain.signer import write_keystore

    port = free_port()
    with start_anvil() as node, tempfile.TemporaryDirectory() as home:
        lab = PerpsLab(build_world(node.url))
        lab.world.save(data / "chain" / "world.json")
        (data / CONTRACTS_FILE).write_text(lab.contracts().model_dump_json())
        command = [sys.executable, "-m", "tests.chain.sending.proxy", node.url, str(port)]
        write_keystore(Path(home) / "key.json", local_key("executor"), "crash", iterations=1_000)
        os.environ |= {
            "MAXXIT_LOCAL_RPC": f"http://127.0.0.1:{port}",
            "MAXXIT_CONFIG_DIR": str(write_configuration(Path(home))),
            "EXECUTOR_KEYSTORE": str(Path(home) / "key.json"),
            "EXECUTOR_PASSWORD": "crash",
        }
        with subprocess.Popen(command) as proxy:
            try:
                yield ready(Bench(lab, f"http://127.0.0.1:{port}", data))
            finally:
                proxy.kill()


def ready(made: Bench) -> Bench:
    """Load what a worker needs, wait for the proxy, open the gate."""
    from tests import builders as make
    from tests.test_five_venues import forget_configuration
    from trading.risk.policy import policy
    from trading.wiring import venue

    forget_configuration()
    for name in (
        "positions.book",
        "positions.exits.at_venue",
        "positions.exits.sweep",
        "trading.venues.gmx.venue",
    ):
        __import__(name)
    for _ in range(200):
        with contextlib.suppress(OSError):
            made.tell()
            break
        time.sleep(0.05)
    make.open_gate("gmx")
    policy(), venue("gmx")
    return made


def new_order(made: Bench) -> Any:
    """A Safe of its own with money and a policy, and a planned order of a signal for it."""
    from maxxit.core import clock
    from maxxit.evm.codec import encode_call
    from maxxit.ops.devchain.world import Builder, transact
    from tests import builders as make
    from trading.chain.models import SafePlan
    from trading.venues.gmx import verify
    from trading.venues.gmx.contract import module as p

    lab, world = made.lab, made.lab.world
    world.refresh_feeds()
    safe = Builder(world.rpc_url).safe([world.accounts["rogue"]])
    lab.rpc("anvil_setBalance", safe, hex(10**20))
    transact(lab.rpc, safe, safe, encode_call("enableModule(address)", lab.perps))
    transact(lab.rpc, safe, lab.perps, p.set_policy_data(lab.perps_policy(world), lab.rules_of(world)))
    world.mint("USDC", safe, 10_000 * 10**6)
    SafePlan.objects.create(
        chain_id=world.chain_id, safe=safe, module=lab.perps, created_at=clock.now(), verified_at=clock.now(),
        **verify.as_plan(lab.perps_policy(world), lab.rules_of(world)),
    )  # fmt: skip
    make.price("ETH", str(world.price("WETH")))
    agent = make.agent(venue="gmx")
    deployment = make.booked_deployment(
        agent, account=f"gmx:{safe}", chain_id=world.chain_id, module_address=lab.perps, module_enabled=True,
        verified_at=clock.now(),
    )  # fmt: skip
    signal_ = make.signal(agent, usd=str(world.price("WETH")), leverage=LEVERAGE)
    return make.order(deployment, by=signal_, leverage=LEVERAGE)


class Keeper:
    """What a keeper of GMX does with the orders of one Safe, straight at the node, and what time does."""

    def __init__(self, made: Bench, safe: str) -> None:
        self.made, self.lab, self.safe = made, made.lab, safe

    def own(self) -> list[bytes]:
        """The keys of the Safe's orders, frozen ones too."""
        keeper = self.lab.keeper
        found = []
        for key in keeper._listed("ORDER_LIST"):
            with contextlib.suppress(KeyError):
                if keeper.order(key)[0][0] == self.safe:
                    found.append(key)
        return found

    def holds(self) -> bool:
        """Whether GMX has an order or a position of the Safe."""
        return bool(self.own()) or self.safe in {account for account, _, _ in self.lab.keeper.positions()}

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """The network behaves, and nothing that happens meanwhile is taken back later."""
        self.made.tell(chances={}, mines=False, snapshot="")
        yield
        self.lab.mine(crashes.FINAL)
        self.made.tell(chances={}, mines=True, snapshot="")

    def entry(self, name: str) -> None:
        """Do with the entry what this mode says."""
        mode = MODES[name]
        with self.calm():
            if mode.late:
                self.lab.advance(max(mode.late - self.age(), 1))
                sync_clock(self.lab)
            if name == "cancels":
                for key in self.own():
                    with contextlib.suppress(RuntimeError):
                        self.lab.keeper.execute(key, self.lab.world.price("WETH") * 2)
            elif name != "never":
                self.step()

    def age(self) -> int:
        """Seconds since the newest order was made, by the chain's clock."""
        made = [self.lab.keeper.order(key)[1][9] for key in self.own()]
        return self.lab.keeper._next_time() - max(made) if made else 0

    def fall(self, *, freezes: bool) -> None:
        """The price falls below the stop, which is executed or freezes."""
        from tests import builders as make

        world = self.lab.world
        with self.calm():
            price = (world.price("WETH") * BELOW_STOP).quantize(Decimal("0.01"))
            world.move_price("WETH", price)
            make.price("ETH", str(price))
            if freezes:
                for key in self.own():
                    with contextlib.suppress(RuntimeError):
                        self.lab.keeper.fail(key)
            else:
                self.step()

    def step(self) -> None:
        """Execute every order of the Safe whose time it is."""
        for key in self.own():
            with contextlib.suppress(RuntimeError):  # not its time, frozen or gone
                self.lab.keeper.execute(key)


def sync_clock(lab: Any) -> None:
    """Let this process and those it forks live by the chain's clock, which is ahead where time was let pass."""
    from maxxit.core import clock

    pending = int(lab.rpc("eth_getBlockByNumber", "pending", False)["timestamp"], 16)
    ahead = timedelta(seconds=max(0.0, pending - time.time()))
    clock.now = lambda: datetime.now(UTC) + ahead


# -- planted bugs: what these runs must find


def timeout_is_failed() -> None:
    """Silence after sending is booked as a refusal: GMX holds an order that we gave up."""
    crashes.timeout_is_failed()


def failed_read_is_an_end() -> None:
    """An order that cannot be looked for is booked as rejected."""
    from trading.venues.base import Report
    from trading.venues.gmx.venue import GmxVenue

    real = GmxVenue.find_many

    def find_many(self: Any, refs: Any) -> dict[str, Any]:
        found = real(self, refs)
        return {
            ref: Report("rejected", reason="unread") if isinstance(one, Exception) else one
            for ref, one in found.items()
        }

    GmxVenue.find_many = find_many  # type: ignore[method-assign]


def leftovers_stay() -> None:
    """Stop and target of a cancelled entry are left at GMX, where they would close a later position."""
    from trading.venues.gmx import cancellations

    cancellations._exit_keys = lambda args: []


def scan_moves_on_before_it_books() -> None:
    """The scan's new position is committed before what was read is booked."""
    from trading.venues.gmx import scan
    from trading.venues.gmx.models import GmxScan

    real = scan._keep

    def keep(at: Any, safe: str, scanned_to: int, block: int, receipts: Any, times: Any) -> None:
        moved = GmxScan.objects.filter(safe=safe, scanned_to=scanned_to).update(scanned_to=block)
        if moved:
            real(at, safe, block, block, receipts, times)

    scan._keep = keep


def exits_are_not_adopted() -> None:
    """What a stop at GMX filled never becomes a closing order of ours."""
    from positions.exits import at_venue

    at_venue._apply = lambda entries, exits: 0


@dataclass(frozen=True)
class Bug:
    """A planted bug, and where it is looked for."""

    plant: Callable[[], None]
    mode: str
    steps: tuple[str, ...] = ()
    """Where workers are killed; empty: anywhere."""


BUGS = {
    "timeout = failed": Bug(timeout_is_failed, "at once"),
    "a failed read = rejected": Bug(failed_read_is_an_end, "at once"),
    "a cancelled entry leaves its exits": Bug(leftovers_stay, "cancels"),
    "the scan moves on before it books": Bug(
        scan_moves_on_before_it_books, "at once", ("while keeping", "kept, before commit")
    ),
    "exits at GMX are not adopted": Bug(exits_are_not_adopted, "at once"),
}
PLANTED = ""
"""The bug that every worker of this campaign has."""


# -- what a worker does


def life(order_id: int, step: str, occurrence: int, over: Callable[[int], bool]) -> None:
    """One worker process: pass after pass until it is over, or until it is killed."""
    from dataclasses import replace

    from trading.models import Order
    from trading.wiring import venue

    at: Any = venue("gmx")
    at.sending = replace(at.sending, finality_depth=crashes.FINAL)
    at.stanza = at.stanza.model_copy(update={"health_seconds": 0.5})
    if made_wrong := BUGS.get(PLANTED):
        made_wrong.plant()
    if step:
        crashes.plant_kill(step, occurrence)
    until = time.monotonic() + (LIFE_SECONDS if step else QUIET_SECONDS)
    while time.monotonic() < until and not over(order_id):
        for one in _passes(order_id):
            with contextlib.suppress(Exception):
                one()
        Order.objects.update(attempts=0)
        time.sleep(0.01)


def _passes(order_id: int) -> list[Callable[[], Any]]:
    from positions import book
    from positions.exits import at_venue, sweep
    from trading import execute, settle
    from trading.models import Order
    from trading.risk.policy import policy
    from trading.wiring import venue

    limits = crashes.wide(policy())
    closing = Order.objects.filter(purpose="close")
    entries = Order.objects.filter(purpose="open")
    return [
        lambda: execute.place_due_orders(closing, limits),
        lambda: execute.place_due_orders(entries, limits),
        settle.settle_due,
        at_venue.watch,
        book.book_pass,
        sweep.sweep,
        lambda: venue("gmx").balances(Order.objects.get(pk=order_id).account),
    ]


def spawn(order_id: int, step: str, occurrence: int, over: Callable[[int], bool]) -> int:
    """A process of its own, forked from this one, which holds no connection and no thread."""
    return forked(lambda: life(order_id, step, occurrence, over))


def forked(act: Callable[[], Any]) -> int:
    from django.db import connections

    connections.close_all()
    gc.freeze()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        log = os.environ.get("CRASHES_LOG", os.devnull)
        sys.stdout = sys.stderr = open(log, "a")  # noqa: SIM115 (until it dies)
        code = act() or 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def created(order_id: int) -> bool:
    """Whether the transaction that creates the order is in a final block, or the order has ended."""
    from trading.chain.models import ChainTransaction
    from trading.models import Order

    order = Order.objects.get(pk=order_id)
    if order.state in ENDED:
        return True
    made = ChainTransaction.objects.filter(idempotency_key=order.client_order_id or "none")
    return made.filter(state="final").exists()


def booked(order_id: int) -> bool:
    """Whether the order has ended and its position is open, if it has one."""
    from positions.models import Position
    from trading.models import Order

    state = Order.objects.values_list("state", flat=True).get(pk=order_id)
    return state in ENDED and (state != "filled" or Position.objects.filter(entry_order=order_id).exists())


def closed(order_id: int) -> bool:
    """Whether the order has ended, and its position if it has one."""
    from positions.models import Position

    ends = Position.objects.filter(entry_order=order_id)
    return booked(order_id) and not ends.exclude(state="closed").exists() and not _awaited(order_id)


def _awaited(order_id: int) -> bool:
    """Whether an order or a transaction of the same Safe has not ended."""
    from trading.chain.models import ChainTransaction
    from trading.models import Order

    account = Order.objects.values_list("account", flat=True).get(pk=order_id)
    orders = Order.objects.filter(account=account).exclude(state__in=ENDED)
    sent = ChainTransaction.objects.filter(terms__safe=account.removeprefix("gmx:"))
    return orders.exists() or sent.filter(state__in=("signed", "broadcast", "mined")).exists()


ENDED = ("filled", "rejected", "canceled", "expired", "blocked")


# -- a run


def run(made: Bench, dice: random.Random, name: str) -> str:
    """One order under fire; what is wrong afterwards, or an empty string."""
    from trading.models import Order

    mode = MODES[name]
    made.tell(chances={}, mines=False, snapshot="")
    sync_clock(made.lab)
    price = made.lab.world.price("WETH")
    order = new_order(made)
    safe = order.account.removeprefix("gmx:")
    keeper = Keeper(made, safe)
    fire(made, dice, order.pk, CREATING, created)
    order.refresh_from_db()
    if (order.state, order.reason) == ("blocked", "venue_unreadable"):
        return crashes.UNREAD
    keeper.entry(name)
    fire(made, dice, order.pk, BOOKING, booked if mode.ends == "filled" else closed)
    order.refresh_from_db()
    if order.state == "filled":
        keeper.fall(freezes=mode.freezes)
        fire(made, dice, order.pk, (*BOOKING, *CREATING) if mode.freezes else BOOKING, closed, keeper)
    made.tell(chances={}, mines=False, snapshot="")
    if made.lab.world.price("WETH") != price:
        made.lab.world.move_price("WETH", price)
    wrong = compare(made, Order.objects.get(pk=order.pk), safe, mode)
    return f"{name}: {wrong}" if wrong else ""


def fire(
    made: Bench, dice: random.Random, order_id: int, steps: tuple[str, ...], over: Callable[[int], bool],
    keeper: Keeper | None = None,
) -> None:  # fmt: skip
    """Some workers are killed while the network misbehaves; then others work in peace until it is over."""
    if PLANTED and (named := set(BUGS[PLANTED].steps) & set(steps)):
        steps = tuple(sorted(named))
    for _ in range(dice.randint(1, LIVES)):
        made.tell(chances=crashes.NETWORK, mines=True, seed=dice.randrange(2**32), final=crashes.FINAL)
        chosen = [dice.choice(steps) for _ in range(1 + (dice.random() < 0.2))]
        pids = {spawn(order_id, step, dice.choice((1, 1, 2)), over): step for step in chosen}
        for pid, step in pids.items():
            if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
                made.killed[step] += 1
        if keeper:
            with keeper.calm():
                keeper.step()
    for _ in range(PLANTED_QUIET_LIVES if PLANTED else QUIET_LIVES):
        made.tell(chances={"eth_getTransactionReceipt": {"stale": 0.1}}, mines=True, snapshot="")
        os.waitpid(spawn(order_id, "", 0, over), 0)
        if over(order_id):
            return
        if keeper:
            with keeper.calm():
                keeper.step()


def compare(made: Bench, order: Any, safe: str, mode: Mode) -> str:
    """What is wrong with the order, its position, GMX and the ledger; empty for nothing."""
    from positions.models import Position
    from trading.chain.models import ChainTransaction
    from trading.models import Order

    requests = [one for one in made.lab.perps_logs() if one.args.get("safe") == safe]
    opened = sum(one.name == "PositionRequested" for one in requests)
    intents = ChainTransaction.objects.filter(terms__safe=safe, terms__purpose="open").count()
    filled = int(mode.ends == "filled")
    exits = Order.objects.filter(account=order.account, purpose="close", state="filled")
    found = {
        "requests": (opened, 1),
        "intents": (intents, 1),
        "state": (str(order.state), mode.ends),
        "fills": (order.fills.count(), filled),
        "positions": (Position.objects.filter(entry_order=order).count(), filled),
        "closed": (Position.objects.filter(entry_order=order, state="closed").count(), filled),
        "exits": (exits.count(), filled),
        "at GMX": (Keeper(made, safe).holds(), False),
        "orders in flight": (_awaited(order.pk), False),
        "books": (os.waitstatus_to_exitcode(os.waitpid(forked(lambda: books(order.account)), 0)[1]), 0),
    }
    wrong = [f"{what} {is_} not {wanted}" for what, (is_, wanted) in found.items() if is_ != wanted]
    reasons = list(Order.objects.filter(account=order.account).values_list("purpose", "state", "reason"))
    return f"{', '.join(wrong)}: {reasons}" if wrong else ""


def books(account: str) -> int:
    """1 where the ledger does not balance or differs from the chain, else 0."""
    from trading import ledger, reconcile
    from trading.wiring import venue

    at: Any = venue("gmx")
    from dataclasses import replace

    at.sending = replace(at.sending, finality_depth=crashes.FINAL)
    found = reconcile.compare_settled({("gmx", account)})
    drift = ledger.drift()
    print("books", account, drift, found)
    return int(bool(drift or found.differences or found.unread))


def campaign(made: Bench, runs: int, seed: int, seconds: float) -> list[str]:
    """Many runs; what went wrong."""
    dice, faults, began = random.Random(seed), [], time.monotonic()
    modes: Counter[str] = Counter()
    unread = done = 0
    while done < runs and time.monotonic() - began < seconds:
        mode = BUGS[PLANTED].mode if PLANTED else list(MODES)[(done + unread) % len(MODES)]
        wrong = run(made, dice, mode)
        if wrong == crashes.UNREAD:
            unread += 1
            continue
        done += 1
        modes[mode] += 1
        print(f"{done}: {wrong or mode}, {time.monotonic() - began:.0f} s", flush=True)
        if wrong:
            faults.append(f"run {done}: {wrong}")
            if PLANTED:
                break
    took = time.monotonic() - began
    print(
        f"{PLANTED or 'sound'}: {done} runs, seed {seed}, {dict(modes)}, {len(faults)} wrong, {took:.0f} s; "
        f"{unread} unread"
    )
    for fault in faults[:20]:
        print("   " + fault)
    print(f"killed {made.killed.total()}: {dict(made.killed)}")
    return faults


def main() -> int:
    global PLANTED
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument(
        "--planted", choices=BUGS, default="", help="every worker has this bug: exit code 0 if it is found"
    )
    given = parser.parse_args()
    PLANTED = given.planted
    crashes.STEPS.update(STEPS)
    crashes._chain = chain
    crashes.VENUE = "gmx"
    with crashes.bench() as made:
        faults = campaign(made, given.runs, given.seed, given.seconds)
    return 0 if bool(faults) == bool(PLANTED) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
