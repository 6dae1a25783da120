"""`python -m tests.chain.crashes --runs 300`: a worker that is killed at every step of sending, and a bad network.

Each run is one order of one Safe. Real worker processes take it from planned to filled; each of the first ones is
killed with SIGKILL at a step of the protocol, sometimes two work at the same time, and the node times out after
accepting, loses, doubles, lags and reorganises. Afterwards: one swap, one nonce, one fill, the order filled.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

STEPS = {
    "before persist": ("trading.execute", "advance_each", "before"),
    "after persist, before commit": ("trading.execute", "advance_each", "after"),
    "after commit": ("trading.execute", "send_orders", "before"),
    "before sign": ("trading.chain.signer:Signer", "sign", "before"),
    "after sign, before stored": ("trading.chain.signer:Signer", "sign", "after"),
    "stored, before commit": ("trading.chain.outbox", "_store_attempt", "after"),
    "after stored": ("trading.chain.outbox", "commit", "after"),
    "before broadcast": ("maxxit.evm.rpc:Chain", "broadcast", "before"),
    "after broadcast": ("maxxit.evm.rpc:Chain", "broadcast", "after"),
    "broadcast noted": ("trading.chain.outbox", "_send", "after"),
    "before receipt": ("trading.chain.outbox", "find_receipt", "before"),
    "after receipt": ("trading.chain.outbox", "find_receipt", "after"),
    "before receipt noted": ("trading.chain.outbox", "_record_receipt", "before"),
    "after receipt noted": ("trading.chain.outbox", "_record_receipt", "after"),
    "before booking": ("trading.settle", "apply_reports", "before"),
    "while booking": ("trading.settle", "_book_fills", "after"),
    "after booking": ("trading.settle", "apply_reports", "after"),
}
"""Step -> (module[:class], function, before or after it)."""
NETWORK = {
    "eth_sendRawTransaction": {"silent": 0.25, "lost": 0.15, "twice": 0.15},
    "eth_getTransactionReceipt": {"stale": 0.15, "silent": 0.05, "reorg": 0.1, "moved": 0.05},
    "eth_getTransactionCount": {"stale": 0.1, "lost": 0.05},
    "eth_call": {"lost": 0.03},
    "eth_getBlockByNumber": {"lost": 0.03},
}
SHORT = {
    "eth_sendRawTransaction": "send",
    "eth_getTransactionReceipt": "receipt",
    "eth_getTransactionCount": "nonce",
    "eth_call": "call",
    "eth_getBlockByNumber": "block",
}
SAFE_USDC = 100_000 * 10**6
LIFE_SECONDS, LAST_SECONDS, VARIANT_SECONDS, LIVES = 20.0, 120.0, 5.0, 3
UNREAD = "blocked, venue_unreadable"
"""A check that could not be read blocks an order for good, by design: such a run says nothing and is made again."""
VENUE = "safe"
"""Whose orders the workers place and settle."""
FINAL = 3
"""Blocks; deeper than that nothing is taken back."""


def die() -> None:
    """What the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def plant_kill(step: str, occurrence: int) -> None:
    """Let this process die at the n-th time that it comes to a step."""
    place, name, when = STEPS[step]
    module, _, kind = place.partition(":")
    owner = __import__(module, fromlist=["_"])
    owner = getattr(owner, kind) if kind else owner
    real, times = getattr(owner, name), iter(range(1, 10_000))

    def wrapped(*args: Any, **options: Any) -> Any:
        now = next(times) == occurrence
        if now and when == "before":
            die()
        found = real(*args, **options)
        if now:
            die()
        return found

    setattr(owner, name, wrapped)


# -- planted bugs: what the sources did, and what these runs must find


def _again(tx: Any, chain: Any, signer: Any, sending: Any, *, rebuild: bool) -> None:
    """Send the intent anew with a fresh nonce, as the sources did."""
    from django.db import transaction

    from trading.chain import outbox
    from trading.chain.models import ChainTransaction, Signer

    nonce = chain.nonce(signer.address)
    if nonce <= tx.nonce and not rebuild:
        return
    with transaction.atomic():
        ChainTransaction.objects.filter(pk=tx.pk).update(nonce=nonce)
        Signer.objects.update(next_nonce=nonce + 1)
        tx.nonce = nonce
        if rebuild:
            tx.calldata = "0x" + _other_id(bytes.fromhex(tx.calldata[2:])).hex()
        made = outbox._store_attempt(tx, signer, outbox.first_fees(chain.head(), sending))
    with contextlib.suppress(Exception):
        chain.broadcast(bytes.fromhex(made.raw[2:]))


def _other_id(data: bytes) -> bytes:
    """The same call under another trade id."""
    return data[:36] + os.urandom(32) + data[68:]


def fresh_nonce_on_nonce_too_low(*, rebuild: bool = False) -> None:
    """ "nonce too low" is taken for "not sent"."""
    from trading.chain import outbox
    from trading.wiring import venue

    def used(tx: Any, attempts: Any, chain: Any, sending: Any) -> bool:
        if chain.nonce(tx.signer.address) > tx.nonce:
            _again(tx, chain, next(iter(venue("safe").signers.values())), sending, rebuild=rebuild)  # type: ignore[attr-defined]
        return True

    outbox._nonce_is_used = used


def resend_without_stored_bytes(*, rebuild: bool = False) -> None:
    """A worker that comes back signs what it finds signed once more."""
    from trading.chain import outbox

    real = outbox.follow

    def follow(tx: Any, chain: Any, signer: Any, sending: Any, may_send: Any, **rest: Any) -> None:
        tx.refresh_from_db()
        if tx.state == "signed" and tx.attempts.count() == 1 and tx.pk not in _mine:
            _again(tx, chain, signer, sending, rebuild=rebuild)
        real(tx, chain, signer, sending, may_send, **rest)

    commit, _mine = outbox.commit, set[int]()

    def remember(tx: Any, *args: Any) -> None:
        commit(tx, *args)
        _mine.add(tx.pk)

    outbox.follow = follow  # type: ignore[assignment]
    outbox.commit = remember  # type: ignore[assignment]


def timeout_is_failed() -> None:
    """Silence after sending is booked as a refusal."""
    from maxxit.core.errors import Rejected, Unknown
    from trading.venues.safe.venue import SafeVenue

    real = SafeVenue.send

    def send(self: Any, prepared: Any) -> None:
        try:
            real(self, prepared)
        except Unknown as error:
            raise Rejected(str(error), code="timeout") from error

    SafeVenue.send = send  # type: ignore[method-assign]


def no_on_chain_id() -> None:
    """Whoever sends again names another trade: nothing on chain recognises the repeat."""
    resend_without_stored_bytes(rebuild=True)
    fresh_nonce_on_nonce_too_low(rebuild=True)


VARIANTS: dict[str, Callable[[], None]] = {
    "fresh nonce on nonce too low": fresh_nonce_on_nonce_too_low,
    "resend without stored bytes": resend_without_stored_bytes,
    "timeout = failed": timeout_is_failed,
    "no on-chain id": no_on_chain_id,
}


# -- the world of the runs


@dataclass
class Bench:
    """A chain, a proxy before it, and the database."""

    lab: Any
    proxy: str
    data: Path
    killed: Counter[str] = field(default_factory=Counter)
    """Step -> kills."""
    together: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(step, fault) -> runs in which a worker was killed there and the network did that."""

    def tell(self, **changes: Any) -> dict[str, int]:
        """Instruct the proxy; the faults that it has made since it got a seed."""
        asked = urllib.request.Request(self.proxy + "/tell", json.dumps(changes).encode(), method="POST")
        done: dict[str, int] = json.loads(urllib.request.urlopen(asked, timeout=10).read())
        return done

    def table(self) -> str:
        """Kills by step, and in how many of these runs the network made which fault, as markdown."""
        kinds = [f"{method} {kind}" for method, kinds in NETWORK.items() for kind in kinds]
        short = [SHORT.get(kind.split()[0], kind.split()[0]) + " " + kind.split()[1] for kind in kinds]
        lines = ["| killed | kills | " + " | ".join(short) + " |", "|---|" + "--:|" * (len(kinds) + 1)]
        lines += [
            f"| {step} | {self.killed[step]} | "
            + " | ".join(str(self.together[step, kind]) for kind in kinds)
            + " |"
            for step in STEPS
        ]
        return "\n".join(lines)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Everything that the runs need, in a database of their own."""
    from tests import servers

    servers.start()
    try:
        os.environ["DJANGO_SETTINGS_MODULE"] = "maxxit.settings"
        import django

        django.setup()
        from django.conf import settings
        from django.db import connection

        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = f"crashes_{os.getpid()}"
        connection.settings_dict["TEST"]["NAME"] = f"crashes_{os.getpid()}"
        plain = connection.settings_dict["NAME"]
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        try:
            with _chain(Path(settings.DATA_DIR)) as made:
                yield made
        finally:
            connection.creation.destroy_test_db(plain, verbosity=0)
    finally:
        servers.pytest_unconfigure()


@contextlib.contextmanager
def _chain(data: Path) -> Iterator[Bench]:
    from maxxit.ops.devchain.anvil import free_port, start_anvil
    from maxxit.ops.devchain.world import build_world, local_key
    from tests.chain.lab import Lab
    from trading.chain.signer import write_keystore

    port = free_port()
    with start_anvil() as node, tempfile.TemporaryDirectory() as home:
        lab = Lab(build_world(node.url))
        lab.world.save(data / "chain" / "world.json")
        command = [sys.executable, "-m", "tests.chain.sending.proxy", node.url, str(port)]
        write_keystore(Path(home) / "key.json", local_key("executor"), "crash", iterations=1_000)
        os.environ |= {
            "MAXXIT_LOCAL_RPC": f"http://127.0.0.1:{port}",
            "EXECUTOR_KEYSTORE": str(Path(home) / "key.json"),
            "EXECUTOR_PASSWORD": "crash",
        }
        with subprocess.Popen(command) as proxy:
            try:
                yield _ready(Bench(lab, f"http://127.0.0.1:{port}", data))
            finally:
                proxy.kill()


def _ready(made: Bench) -> Bench:
    from tests import builders as make
    from trading.risk.policy import policy
    from trading.wiring import venue

    for name in ("positions.book", "trading.execute", "trading.venues.safe.venue"):
        __import__(name)  # everything that a worker needs is loaded once, here
    for _ in range(200):
        with contextlib.suppress(OSError):
            made.tell()
            break
        time.sleep(0.05)
    make.open_gate("safe")
    policy(), venue("safe")  # read once, here: the files may change while hundreds of workers live
    return made


def new_order(made: Bench) -> Any:
    """A Safe of its own with money and a policy, and a planned order of a signal for it."""
    from maxxit.core import clock
    from tests import builders as make
    from trading.chain.models import SafePlan
    from trading.venues.safe import verify

    world = made.lab.world
    world.set_pool_price(
        "WETH", world.price("WETH")
    )  # hundreds of buys would push it below the module's floor
    safe = made.lab.another_safe(SAFE_USDC)
    SafePlan.objects.create(
        chain_id=world.chain_id,
        safe=safe,
        module=world.module,
        created_at=clock.now(),
        verified_at=clock.now(),
        **verify.as_plan(world.policy(), world.rules()),
    )
    make.price("ETH", str(world.price("WETH")))
    agent = make.agent(venue="safe")
    deployment = make.booked_deployment(
        agent, account=safe, safe_wallet=safe, chain_id=world.chain_id, module_address=world.module,
        module_enabled=True, verified_at=clock.now(),
    )  # fmt: skip
    signal_ = make.signal(agent, usd=str(world.price("WETH")))
    return make.order(deployment, by=signal_)


def wide(policy: Any) -> Any:
    """The policy without the paces that hundreds of orders a minute would meet."""
    account = policy.account.model_copy(update={"max_orders_per_minute": 10**6})
    many: dict[str, Any] = {"max_orders_per_minute": 10**6, "max_open_orders": 10**6}
    many |= {"max_total_exposure_usd": Decimal(10**9), "max_symbol_exposure_usd": Decimal(10**9)}
    return policy.model_copy(update={"account": account, "platform": policy.platform.model_copy(update=many)})


def life(order_id: int, step: str, occurrence: int, variant: str) -> None:
    """One worker process: pass after pass until the order has ended, or until it is killed."""
    from dataclasses import replace

    from trading import execute, settle
    from trading.models import Order
    from trading.risk.policy import policy
    from trading.states import IN_FLIGHT
    from trading.wiring import venue

    at: Any = venue(VENUE)
    at.sending = replace(at.sending, finality_depth=FINAL)
    at.stanza = at.stanza.model_copy(update={"health_seconds": 0.5})
    if variant:
        VARIANTS[variant]()
    if step:
        plant_kill(step, occurrence)
    last = LIFE_SECONDS if step else LAST_SECONDS
    until = time.monotonic() + (VARIANT_SECONDS if variant else last)
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            execute.place_due_orders(Order.objects.filter(purpose="open"), wide(policy()))
            settle.settle_due()
        Order.objects.filter(pk=order_id).update(attempts=0)
        state = Order.objects.values_list("state", flat=True).get(pk=order_id)
        if state != "planned" and state not in IN_FLIGHT:
            return
        time.sleep(0.01)


def spawn(order_id: int, step: str, occurrence: int, variant: str) -> int:
    """A process of its own, forked from this one, which holds no connection and no thread."""
    from django.db import connections

    connections.close_all()
    gc.freeze()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (until it dies)
        life(order_id, step, occurrence, variant)
        code = 0
    finally:
        os._exit(code)


def run(made: Bench, dice: random.Random, variant: str = "") -> str:
    """One order under fire; what is wrong afterwards, or an empty string. `UNREAD`: it never was placed."""
    from trading.chain.models import ChainTransaction
    from trading.models import Order

    made.tell(chances={}, mines=False)
    order = new_order(made)
    nonce = _nonce(made)
    made.tell(chances=NETWORK, mines=True, seed=dice.randrange(2**32), snapshot="", final=FINAL)
    died = set()
    for _ in range(dice.randint(1, LIVES)):
        steps = [dice.choice(list(STEPS)) for _ in range(1 + (dice.random() < 0.2))]
        pids = {spawn(order.pk, step, dice.choice((1, 1, 1, 2)), variant): step for step in steps}
        for pid, step in pids.items():
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status):
                made.killed[step] += 1
                died.add(step)
    done = made.tell(chances={"eth_getTransactionReceipt": {"stale": 0.1}}, mines=True)
    made.together.update((step, fault) for step in died for fault in done)
    os.waitpid(spawn(order.pk, "", 0, variant), 0)
    made.tell(chances={}, mines=False)
    order = Order.objects.get(pk=order.pk)
    opened = [
        log for log in made.lab.logs() if log.name == "PositionOpened" and log.args["safe"] == order.account
    ]
    sent = _nonce(made) - nonce
    tx = ChainTransaction.objects.filter(idempotency_key=order.client_order_id or "").first()
    if (order.state, order.reason, sent, len(opened)) == ("blocked", "venue_unreadable", 0, 0):
        return UNREAD
    found = (len(opened), sent, order.fills.count(), str(order.state), tx.state if tx else "none")
    return (
        ""
        if found == (1, 1, 1, "filled", "final")
        else (
            "swaps, nonces, fills, order, transaction: "
            + ", ".join(str(one) for one in found)
            + f" ({order.reason})"
        )
    )


def books() -> list[str]:
    """Book what was filled; return what differs between positions and ledger afterwards."""
    from django.db.models import F

    from tests.chaos.invariants import different_books
    from tests.passes import monitor_pass
    from trading.models import Order

    monitor_pass()
    unbooked = Order.objects.filter(filled_quantity__gt=F("booked_quantity")).count()
    return [f"{unbooked} orders are filled and not booked"] * (unbooked > 0) + [
        f"positions and ledger differ: {row}" for row in different_books()
    ]


def clear(made: Bench) -> None:
    """What an earlier campaign broke must not look like this one's fault: orders set aside, no nonce missing."""
    from django.db.models import Max

    from trading.chain.models import ChainTransaction, Signer
    from trading.models import Order

    made.tell(chances={}, mines=False)
    Order.objects.update(attempts=99)
    made.lab.rpc("anvil_dropAllTransactions")
    executor = made.lab.world.accounts["executor"]
    highest = ChainTransaction.objects.aggregate(highest=Max("nonce"))["highest"]
    while highest is not None and _nonce(made) <= highest:
        made.lab.world.send("executor", executor, b"")
    Signer.objects.update(next_nonce=_nonce(made))


def _nonce(made: Bench) -> int:
    executor = made.lab.world.accounts["executor"]
    return int(made.lab.rpc("eth_getTransactionCount", executor, "latest"), 16)


def campaign(
    made: Bench, runs: int, seed: int, variant: str = "", *, stop: bool = False, seconds: float = 1e9
) -> list[str]:
    """Many runs; what went wrong. `stop` at the first fault."""
    dice, faults, began = random.Random(seed), [], time.monotonic()
    clear(made)
    done = unread = 0
    while done < runs and time.monotonic() - began < seconds:
        wrong = run(made, dice, variant)
        if wrong == UNREAD:
            unread += 1
            continue
        done += 1
        if wrong:
            faults.append(f"run {done}: {wrong}")
            if stop:
                break
            clear(made)  # a nonce that is missing would be the next run's fault too
        if not variant and done % 25 == 0:
            print(f"{done} runs, {len(faults)} wrong, {time.monotonic() - began:.0f} s", flush=True)
    if not variant:
        faults += books()
    took = time.monotonic() - began
    print(
        f"{variant or 'sound'}: {done} runs, seed {seed}, {len(faults)} wrong, {took:.0f} s; "
        f"{unread} orders blocked before anything left because a check could not be read",
        flush=True,
    )
    for fault in faults[:10]:
        print("   " + fault)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="no new sound run after so long")
    parser.add_argument("--variants", type=int, default=40, help="most runs of each planted bug")
    given = parser.parse_args()
    with bench() as made:
        faults = campaign(made, given.runs, given.seed, seconds=given.seconds)
        print(f"killed {made.killed.total()}\n{made.table()}", flush=True)
        made.killed.clear()
        missed = [
            name
            for name in VARIANTS
            if given.variants and not campaign(made, given.variants, given.seed, name, stop=True)
        ]
    if given.variants:
        print(f"planted {len(VARIANTS)}, missed: {missed or 'none'}")
    return 1 if faults or missed else 0


if __name__ == "__main__":
    sys.exit(main())
