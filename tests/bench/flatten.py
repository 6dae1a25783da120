"""`python -m tests.bench.flatten`: how long many Safes take to enter and to leave where every RPC call takes 0.3 s.

A flatten of all positions by one exits worker; with `--entries` one signal for all Safes, by one pass of the entries,
one Safe after the other and then together. Real Safes, the real module, outbox and signer on anvil; each request to a
node waits besides.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.chaos.simulation import arena

D = Decimal
USDC = 10**6
OPENED_WITH = 100 * USDC
"""Of each position, base units."""
PASSWORD = "correct horse battery staple"


@contextmanager
def slow_nodes(seconds: float) -> Iterator[list[int]]:
    """Let each request to a node take `seconds` longer; yields a list with how many there were."""
    from maxxit.core import http

    real, count, lock = http.fetch, [0], threading.Lock()

    def slow(*args: Any, **options: Any) -> Any:
        with lock:
            count[0] += 1
        time.sleep(seconds)
        return real(*args, **options)

    http.fetch = slow
    try:
        yield count
    finally:
        http.fetch = real


def fill_world(lab: Any, safes: int, each: int) -> None:
    """So many Safes, each with `each` positions: on the chain, in the ledger and as rows."""
    from maxxit.core import clock
    from positions.models import Position
    from tests import builders as make
    from trading import ledger
    from trading.models import JournalKind
    from trading.venues.safe.contract import module as m

    price = lab.world.price("WETH")
    make.price("ETH", str(price))
    make.open_gate("safe")
    agent = make.agent(venue="safe")
    deployments = [
        make.deployment(
            agent, funded=False, account=(safe := lab.another_safe()), safe_wallet=safe, chain_id=31337,
            module_enabled=True, verified_at=clock.now(),
        )
        for _ in range(safes)
    ]  # fmt: skip
    for _ in range(each):
        lab.advance(5)
        for deployment in deployments:
            signal = make.signal(agent, usd=str(price), bucket=clock.now(), state="executed")
            trade_id = m.trade_id(str(deployment.pk), str(signal.pk))
            data = m.open_data(
                deployment.account,
                trade_id,
                lab.world.address_of("WETH"),
                OPENED_WITH,
                0,
                lab.world.now() + 600,
            )
            got = D(lab.send("executor", data)[-1].args["quantity"]).scaleb(-18)
            entry = make.order(
                deployment, by=signal, venue="safe", state="filled", quantity=got, filled_quantity=got,
                booked_quantity=got, average_price=price,
            )  # fmt: skip
            held = ledger.Move("venue:safe", ledger.account_of(deployment.pk), "ETH", got, "trade")
            ledger.post(JournalKind.FILL, f"bench:{entry.pk}", [held])
            Position.objects.create(
                deployment=deployment, signal=signal, entry_order=entry, symbol="ETH", side="long", quantity=got,
                entry_price=price, stop_loss=price / 2, take_profit=price * 2, opened_at=clock.now(),
                correlation_id=signal.correlation_id,
            )  # fmt: skip


def measure(lanes: int, delay: float) -> None:
    """Flatten everything; print when the last order left, and when the last was filled."""
    from positions.models import Position
    from positions.tasks import exit_pass
    from trading import gate
    from trading.chain.models import ChainAttempt
    from trading.closing import Lanes
    from trading.models import Order

    wanted, threads = Position.objects.filter(state="open").count(), Lanes(lanes)
    gate.kill("flatten", by="bench", reason="bench")
    with slow_nodes(delay) as requests:
        began, left = time.monotonic(), 0.0
        while time.monotonic() - began < 600:
            exit_pass(threads)
            closing = Order.objects.filter(purpose="close")
            gone = ChainAttempt.objects.filter(number=1, broadcast_at__isnull=False).count()
            if gone >= wanted and not left:
                newest = ChainAttempt.objects.filter(number=1).latest("broadcast_at")
                assert newest.broadcast_at is not None
                left = (newest.broadcast_at - closing.earliest("created_at").created_at).total_seconds()
                asked = requests[0]
            if left and not closing.exclude(state="filled").exists():
                break
        took = time.monotonic() - began
    by_state = sorted(set(Order.objects.filter(purpose="close").values_list("state", "reason")))
    print(f"{wanted} positions, {lanes} lanes, {delay} s a request: left after {left:.1f} s ", end="")
    print(f"({asked / wanted if left else 0:.1f} requests an order), closed after {took:.1f} s; {by_state}")


def measure_entries(lab: Any, safes: int, delay: float) -> None:
    """Let a signal be followed by so many Safes, one order at a time, then together; print how long that took."""
    from agents.models import Agent, Deployment
    from maxxit.core import clock
    from tests import builders as make
    from trading import ledger, tasks
    from trading.chain.models import ChainAttempt, SafePlan
    from trading.models import Order
    from trading.venues.safe import verify
    from trading.wiring import venue

    price, at = lab.world.price("WETH"), venue("safe")
    make.hourly_bars("ETH", make.calm(float(price)), until=clock.now())
    for batch in (1, at.capabilities.batch):
        fill_world(lab, safes, 0)
        agent = Agent.objects.latest("pk")
        for deployment in Deployment.objects.filter(agent=agent):
            SafePlan.objects.create(
                chain_id=lab.world.chain_id, safe=deployment.account, module=lab.world.module,
                created_at=clock.now(), verified_at=clock.now(),
                **verify.as_plan(lab.world.policy(), lab.world.rules()),
            )  # fmt: skip
            ledger.deposit(deployment, D(10_000))
        make.signal(agent, usd=str(price), bucket=clock.now())
        at.capabilities = replace(at.capabilities, batch=batch)
        with slow_nodes(delay) as requests:
            began = time.monotonic()
            tasks.entry_pass()
            took, asked = time.monotonic() - began, requests[0]
        entries = Order.objects.filter(purpose="open", deployment__agent=agent)
        left = ChainAttempt.objects.filter(
            number=1, broadcast_at__isnull=False,
            transaction__idempotency_key__in=entries.values("client_order_id"),
        ).count()  # fmt: skip
        print(
            f"{safes} Safes, {batch} at a time, {delay} s a request: {left} entries left in {took:.1f} s "
            f"({asked / safes:.1f} requests an order); {sorted(set(entries.values_list('state', 'reason')))}"
        )


def main() -> int:
    """Build the world, flatten it, or let all enter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--safes", type=int, default=100)
    parser.add_argument("--each", type=int, default=2, help="positions of a Safe")
    parser.add_argument("--lanes", type=int, help="default: config/passes.yaml")
    parser.add_argument("--delay", type=float, default=0.3, help="seconds that each request takes longer")
    parser.add_argument("--entries", action="store_true", help="entries instead of a flatten")
    given = parser.parse_args()
    from maxxit.ops.devchain.anvil import start_anvil
    from maxxit.ops.devchain.world import build_world, local_key
    from tests.chain.lab import Lab
    from trading.chain.signer import write_keystore

    with tempfile.TemporaryDirectory() as folder, start_anvil() as node:
        home = Path(folder)
        write_keystore(home / "executor.json", local_key("executor"), PASSWORD, iterations=1_000)
        os.environ |= {
            "EXECUTOR_KEYSTORE": str(home / "executor.json"), "EXECUTOR_PASSWORD": PASSWORD,
            "MAXXIT_LOCAL_RPC": node.url,
        }  # fmt: skip
        lab = Lab(build_world(node.url))
        with arena():
            from django.conf import settings

            from trading import passes

            lab.world.save(settings.DATA_DIR / "chain" / "world.json")
            if given.entries:
                measure_entries(lab, given.safes, given.delay)
                return 0
            fill_world(lab, given.safes, given.each)
            measure(given.lanes or passes.policy().exits.lanes, given.delay)
    return 0


if __name__ == "__main__":
    sys.exit(main())
