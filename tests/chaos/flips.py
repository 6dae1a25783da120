"""The gate under load: shut a thousand times while real workers send, and what still leaves.

    python -m tests.chaos.flips --flips 1000 --seed 1

Workers of their own run the product's passes without a pause; the exchange writes down when each message with an
order arrives, and the proxy before the Safe venue's chain when each broadcast does (`flips_chain`). Every flip is one
of: the kill switch at each of its levels, the dry run, the approval taken back.
Counted per flip, from the moment that its call returned: orders that were reserved after it and left while the
gate was shut (must be none), and messages that arrived while it was shut, of orders that were reserved before: how
long after, at most two seconds.
Workers are frozen now and then (SIGSTOP) and killed, as machines are.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.chaos import flips_chain
from tests.chaos.flips_chain import VENUE as SAFE
from tests.chaos.flips_chain import ChainShare
from tests.chaos.world import (
    VENUES,
    Dice,
    Plant,
    Tally,
    World,
    asked,
    percentiles,
    run_forever,
    settle_down,
    world,
)
from tests.passes import execute_pass, monitor_pass

BOUND_SECONDS = 2.0
"""The last send after a flip (I7)."""
AGENTS, DEPLOYMENTS = 120, 4
SIGNALS = 1
"""A flip, at the exchange: few enough that the orders of the Safe venue do not wait behind a backlog."""
MONEY = "10000000"
BATCH = 50
"""Flips between two audits."""
CHANCES = {"send": {"lost, silent": 0.03, "taken, silent": 0.03, "lost, 503": 0.02, "429": 0.02, "slow": 0.1}}
GATES = (*VENUES, SAFE)
KINDS = ("no_entries", "reduce_only", "flatten", "dry run", "revoked")
STOPS_EXITS = ("dry run", "revoked")


@dataclass(frozen=True)
class Flip:
    """One time that the gate was shut: seconds since the epoch."""

    kind: str
    shut: float
    """The call had returned."""
    opening: float
    """From here on it may be open again."""


class Campaign:
    """Flips under load."""

    def __init__(self, here: World, share: ChainShare, seed: int) -> None:
        from tests import builders as make

        self.here, self.share, self.dice, self.make = here, share, Dice(seed), make
        self.tally = Tally("kill switch", seed)
        here.tell(seed=seed, chances=CHANCES)
        self.agents = [make.agent(venue=name) for name in VENUES for _ in range(AGENTS // 2)]
        deposits: list[list[str]] = []
        for agent in self.agents:
            for _ in range(DEPLOYMENTS):
                deployment = make.booked_deployment(
                    agent, usdc=MONEY, account=f"{agent.venue}:{len(deposits)}"
                )
                deposits.append([deployment.account, MONEY])
        here.tell(deposits=deposits)
        make.price("ETH", "2000")
        settle_down(execute_pass, monitor_pass)
        self.next_agent = 0
        self.workers: list[int] = []
        self.frozen: dict[int, float] = {}
        self.flips: list[Flip] = []
        self.lags: list[float] = []
        self.sent, self.broadcasts = 0, 0
        share.tell(seed=seed, chances=flips_chain.CHANCES)

    def start(self) -> None:
        """Two workers that execute, one for exits and one that monitors."""
        from positions import tasks as positions

        works: list[Callable[[], Any]] = [
            execute_pass,
            execute_pass,
            positions.exit_pass,
            monitor_pass,
        ]
        self.workers = [run_forever(work) for work in works]

    def stop(self) -> None:
        """They are killed, as everything here."""
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.workers, self.frozen = [], {}

    def harm(self) -> None:
        """Freeze a worker for a while, or kill all and start them again."""
        now = time.monotonic()
        for pid, until in list(self.frozen.items()):
            if now >= until:
                os.kill(pid, signal.SIGCONT)
                del self.frozen[pid]
        if self.dice.random() < 0.08:
            pid = self.dice.choice(self.workers)
            os.kill(pid, signal.SIGSTOP)
            self.frozen[pid] = now + 0.8 * self.dice.random()
            self.tally.count("worker frozen")
        if self.dice.random() < 0.02:
            self.stop()
            self.start()
            self.tally.count("SIGKILL of the workers")

    def supply(self) -> None:
        """New intents, and a price at which some positions leave."""
        for _ in range(SIGNALS):
            self.make.signal(self.agents[self.next_agent], usd="2000")
            self.next_agent = (self.next_agent + 1) % len(self.agents)
        self.share.supply()
        self.make.price("ETH", self.dice.choices(("2000", "2420"), (0.7, 0.3))[0])

    def flip(self) -> None:
        """Shut it while they send, wait, open it again."""
        kind = self.dice.choice(KINDS)
        self.supply()
        time.sleep(0.03 + 0.25 * self.dice.random())
        self.harm()
        self.shut(kind)
        shut = time.time()
        long = self.dice.random() < 0.04
        time.sleep(BOUND_SECONDS + 0.5 if long else 0.02 + 0.1 * self.dice.random())
        opening = time.time()
        self.open(kind)
        self.flips.append(Flip(kind, shut, opening))
        self.tally.count(f"flip: {kind}")

    def shut(self, kind: str) -> None:
        """As a person, or a trigger, does it."""
        from trading import gate

        if kind == "dry run":
            for name in GATES:
                gate.set_dry_run(name, True, by="chaos", reason="flip")
        elif kind == "revoked":
            for name in GATES:
                gate.revoke(name, by="chaos", reason="flip")
        else:
            gate.kill(kind, by="chaos", reason="flip")

    def open(self, kind: str) -> None:
        """The other way."""
        from maxxit.core import clock
        from trading import gate

        for name in GATES:
            if kind == "dry run":
                gate.set_dry_run(name, False, by="chaos", reason="flip")
            elif kind == "revoked":
                until = clock.now() + timedelta(days=1)
                gate.approve(name, by="chaos", until=until, reason="flip")
        if kind not in STOPS_EXITS:
            gate.release(by="chaos", reason="flip")

    def audit(self) -> None:
        """Hold every message and broadcast that arrived against every flip since the last audit; compare the books."""
        from tests.chaos.invariants import different_books
        from trading.models import Order

        messages = self.here.ask("POST", "/arrivals")
        broadcasts, wrong = self.share.arrivals()
        self.tally.violations += wrong
        self.sent, self.broadcasts = self.sent + len(messages), self.broadcasts + len(broadcasts)
        arrived = [(ref, "", at) for ref, _, at in messages]
        arrived += [(one.ref, one.purpose, one.at) for one in broadcasts]
        orders = {
            ref: (reserved.timestamp(), purpose)
            for ref, reserved, purpose in Order.objects.filter(
                client_order_id__in={ref for ref, _, _ in arrived}
            ).values_list("client_order_id", "reserved_at", "purpose")
            if reserved is not None
        }
        for ref, kind, at in arrived:
            if ref not in orders:
                self.tally.violations.append(f"{ref} arrived and no committed reservation has it")
                continue
            reserved, purpose = orders[ref]
            if kind == "cancel":  # it opens nothing, and goes where exits may go
                self._hold_against_flips(f"a cancel of {ref}", "close", 0.0, at)
            else:
                self._hold_against_flips(ref, purpose, reserved, at)
        self.tally.violations += [f"positions and ledger differ: {row}" for row in different_books()]
        self.flips = []

    def _hold_against_flips(self, what: str, purpose: str, reserved: float, at: float) -> None:
        for flip in self.flips:
            if purpose == "close" and flip.kind not in STOPS_EXITS:
                continue
            if not flip.shut < at < flip.opening:
                continue  # held back, and gone when the gate was open again, is as it should be
            lag = at - flip.shut
            if reserved > flip.shut:
                self.tally.violations.append(
                    f"{what} was reserved and left within {lag:.3f} s after {flip.kind}"
                )
            elif lag > BOUND_SECONDS:
                self.tally.violations.append(f"{what} arrived {lag:.2f} s after {flip.kind}")
            else:
                self.lags.append(lag)


def campaign(flips: int, seed: int, plant: Plant = None) -> Tally:
    """One campaign; `plant` changes the product first (a mutant)."""
    with world() as here, flips_chain.chain_share() as share:
        if plant:
            plant()
        one = Campaign(here, share, seed)
        one.start()
        try:
            for number in range(1, flips + 1):
                one.flip()
                if number % BATCH == 0 or number == flips:
                    one.stop()
                    time.sleep(0.3)  # what is on its way arrives
                    one.audit()
                    if one.tally.violations:
                        break
                    one.start()
                    if flips > 200:
                        taken = time.monotonic() - one.tally.began
                        print(f"{number} flips after {taken:.0f} s", file=sys.stderr)
        finally:
            one.stop()
        one.tally.violations += share.wait_for_the_end()
        milliseconds = {name: f"{1000 * lag:.0f} ms" for name, lag in percentiles(one.lags).items()}
        one.tally.figures = {
            "messages with orders": one.sent,
            "broadcasts of the Safe venue": one.broadcasts,
            "orders of the Safe venue": share.outcomes(),
            "reserved after a flip, and left": sum("was reserved" in line for line in one.tally.violations),
            "arrived after the flip that found them on their way": len(one.lags),
            "how long after": ", ".join(f"{name} {value}" for name, value in milliseconds.items()),
        }
        return one.tally


if __name__ == "__main__":
    sys.exit(asked(__doc__, "flips", 100, campaign))
