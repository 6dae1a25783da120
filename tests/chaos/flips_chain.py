"""The Safe venue's part of the flips: a chain of its own behind a proxy that loses, delays and repeats broadcasts.

Each entry has a Safe of its own, so that the module's cooldown and budgets decide nothing here.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

VENUE, PRICE = "safe", "2000"
SAFE_USDC = 10_000 * 10**6
CHANCES = {
    "eth_sendRawTransaction": {"lost": 0.2, "silent": 0.1, "late": 0.1, "twice": 0.1},
    "eth_getTransactionReceipt": {"stale": 0.1, "silent": 0.02},
}
END_SECONDS = 60.0
"""Within this time after the last fault every order has ended (I3)."""


@dataclass(frozen=True)
class Arrival:
    """One broadcast that left us."""

    ref: str
    purpose: str
    """open, close, or cancel: an empty transaction that only uses up a nonce."""
    at: float
    """Seconds since the epoch."""


class ChainShare:
    """The chain, its proxy, and what is traded there."""

    def __init__(self, lab: Any, url: str) -> None:
        self.lab, self.url = lab, url
        lab.world.move_price("WETH", Decimal(PRICE))

    def _post(self, path: str, **body: Any) -> Any:
        from maxxit.core import http

        with http.client(self.url, timeout=30) as asking:
            return http.fetch(asking, "POST", path, json=body, max_body=10**9).json()

    def tell(self, **changes: Any) -> None:
        """Instruct the proxy."""
        self._post("/tell", **changes)

    def supply(self) -> None:
        """A Safe with money and a policy, an agent on it, and a signal of that agent."""
        from maxxit.core import clock
        from tests import builders as make
        from trading.chain.models import SafePlan
        from trading.venues.safe import verify

        world = self.lab.world
        world.refresh_feeds()  # a block too: time passes
        world.set_pool_price("WETH", world.price("WETH"))  # many buys would push it below the module's floor
        safe = self.lab.another_safe(SAFE_USDC)
        SafePlan.objects.create(
            chain_id=world.chain_id,
            safe=safe,
            module=world.module,
            created_at=clock.now(),
            verified_at=clock.now(),
            **verify.as_plan(world.policy(), world.rules()),
        )
        agent = make.agent(venue=VENUE)
        make.booked_deployment(
            agent, account=safe, safe_wallet=safe, chain_id=world.chain_id, module_address=world.module,
            module_enabled=True, verified_at=clock.now(),
        )  # fmt: skip
        make.signal(agent, usd=PRICE)

    def arrivals(self) -> tuple[list[Arrival], list[str]]:
        """What left since the last call; and what is wrong with it: bytes that were not stored before."""
        from trading.chain.models import ChainAttempt

        arrived = self._post("/arrivals")
        stored = {
            one.raw: one
            for one in ChainAttempt.objects.filter(raw__in={raw for raw, _ in arrived}).select_related(
                "transaction"
            )
        }
        wrong = [f"bytes left that were not stored: {raw[:40]}" for raw, _ in arrived if raw not in stored]
        found = [
            Arrival(
                one.transaction.idempotency_key,
                "cancel" if one.cancels else one.transaction.terms["purpose"],
                at,
            )
            for raw, at in arrived
            if (one := stored.get(raw))
        ]
        return found, wrong

    def outcomes(self) -> str:
        """How its orders and transactions ended."""
        from trading.chain.models import ChainTransaction
        from trading.models import Order

        orders = Counter(Order.objects.filter(venue=VENUE).values_list("purpose", "state", "reason"))
        states = Counter(ChainTransaction.objects.values_list("state", flat=True))
        return ", ".join(
            [f"{' '.join(filter(None, kind))} {times}" for kind, times in sorted(orders.items())]
            + [f"transactions {state} {times}" for state, times in sorted(states.items())]
        )

    def wait_for_the_end(self) -> list[str]:
        """Without faults and with an open gate every order ends; what is wrong then."""
        from maxxit.events import wake
        from trading import tasks
        from trading.chain.models import ChainTransaction
        from trading.models import Order
        from trading.states import IN_FLIGHT

        self.tell(chances={})
        busy = Order.objects.filter(venue=VENUE, state__in=IN_FLIGHT)
        until = time.monotonic() + END_SECONDS
        while busy.exists() and time.monotonic() < until:
            self.lab.rpc("evm_mine")
            with wake.collected():
                tasks.settle_pass()
            time.sleep(0.05)
        wrong = [f"{one.client_order_id} is {one.state} after {END_SECONDS:.0f} s" for one in busy]
        opened = Counter(log.args["trade_id"] for log in self.lab.logs() if log.name == "PositionOpened")
        wrong += [
            f"trade {trade.hex()} was opened {times} times" for trade, times in opened.items() if times > 1
        ]
        filled = ChainTransaction.objects.filter(state="final", terms__purpose="open").count()
        if filled != len(opened):
            wrong.append(f"{len(opened)} positions on the chain, {filled} final entries")
        return wrong


@contextlib.contextmanager
def chain_share() -> Iterator[ChainShare]:
    """Everything up, the gate open; the key and the endpoint are where workers look for them."""
    from django.conf import settings

    from maxxit.ops.devchain.anvil import free_port, start_anvil
    from maxxit.ops.devchain.world import build_world, local_key
    from tests import builders as make
    from tests.chain.lab import Lab
    from trading.chain.signer import write_keystore
    from trading.wiring import venue

    port = free_port()
    with start_anvil() as node, tempfile.TemporaryDirectory() as home:
        lab = Lab(build_world(node.url))
        lab.world.save(Path(settings.DATA_DIR) / "chain" / "world.json")
        write_keystore(Path(home) / "key.json", local_key("executor"), "flips", iterations=1_000)
        os.environ |= {
            "MAXXIT_LOCAL_RPC": f"http://127.0.0.1:{port}",
            "EXECUTOR_KEYSTORE": str(Path(home) / "key.json"),
            "EXECUTOR_PASSWORD": "flips",
        }
        proxy = subprocess.Popen([sys.executable, "-m", "tests.chain.sending.proxy", node.url, str(port)])
        try:
            share = ChainShare(lab, f"http://127.0.0.1:{port}")
            for _ in range(200):
                with contextlib.suppress(Exception):
                    share.tell()
                    break
                time.sleep(0.05)
            make.open_gate(VENUE)
            venue(VENUE)
            yield share
        finally:
            proxy.kill()
            proxy.wait()
