"""T1: hypothesis finds the order of events that breaks a rule; the rules are those of the simulation.

    python -m tests.chaos.machines --examples 500 --seed 1

The machine chooses what happens next: a signal, a task (that may die at a statement), what the venue does with the
coming messages, a price, the passing of time, a person at the switch, the gate or a position. After every step all
rules that hold at any moment are checked; at the end everything is run out and the whole audit is made.
"""

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.chaos import invariants
from tests.chaos.simulation import BAD_PRICES, TASKS, TIGHT, VENUES, WIDE, World, arena, wipe
from tests.chaos.simulation_venue import CHANCES, PLANS

STEPS = 30
COUNTS: Counter[str] = Counter()
"""What happened in all examples of this process."""
some = st.sampled_from


OUTCOMES = """
SELECT purpose || ' ' || state || CASE state WHEN 'blocked' THEN ' ' || reason ELSE '' END, count(*)
FROM orders GROUP BY 1
"""


def messages(name: str) -> st.SearchStrategy[list[str]]:
    """What goes wrong with the coming messages of this kind."""
    return st.lists(some(("", *CHANCES[name])), max_size=4)


class MoneyPath(RuleBasedStateMachine):
    """Orders, positions, kill switch and ledger between two venues, one of which knows a repeat."""

    limits = WIDE

    def __init__(self) -> None:
        super().__init__()
        wipe()
        COUNTS["examples"] += 1
        self.dirty = False
        self.world = World("T1", COUNTS, intensity=0.0, deployments=2, agents_wanted=2, limits=self.limits)
        self.stack = ExitStack()
        self.stack.enter_context(self.world.set_up())
        self.world.passes(0)
        self.world.found()

    @rule(
        symbol=some(("ETH", "BTC")),
        side=some(("long", "long", "short")),
        hours=some((0.05, 6, 6)),
        plans=st.lists(some(sorted(PLANS)), min_size=1, max_size=4),
        hidden=some(("0", "0.5", "1")),
        sends=messages("send"),
        asks=messages("ask"),
    )
    def signal(
        self,
        symbol: str,
        side: str,
        hours: float,
        plans: list[str],
        hidden: str,
        sends: list[str],
        asks: list[str],
    ) -> None:
        self.world.passes(2)  # the cooldown is one second
        self.world.lot.script |= {"plan": plans, "hidden": [hidden] * len(plans), "send": sends, "ask": asks}
        self.world.intend(symbol, side, hours)
        self.work("execute")

    @rule(
        task=some(sorted(TASKS)), times=st.integers(1, 3), finds=messages("find"), cancels=messages("cancel")
    )
    def work_goes_on(self, task: str, times: int, finds: list[str], cancels: list[str]) -> None:
        self.world.lot.script |= {"find": finds, "cancel": cancels}
        for _ in range(times):
            self.work(task)

    @rule(
        task=some(sorted(TASKS)),
        statement=st.integers(1, 40),
        how=some((("dies", "before"), ("dies", "after"), ("loses the database", "after"))),
    )
    def work_and_die(self, task: str, statement: int, how: tuple[str, str]) -> None:
        self.world.fuse, self.world.burns = statement, how
        self.work(task)

    def work(self, task: str) -> None:
        """One delivery; what it left behind is looked at."""
        self.world.work(task)
        self.dirty = True

    @rule(symbol=some(("ETH", "BTC")), bps=st.integers(-150, 150), bad=some(("", "", "", *BAD_PRICES)))
    def price(self, symbol: str, bps: int, bad: str) -> None:
        last = self.world.quotes[symbol].price
        usd = (last * (1 + Decimal(bps) / 10_000)).quantize(Decimal("0.01"))
        if bad:
            self.world.bad_price(symbol, usd, bad)
        else:
            self.world.price(symbol, usd)

    @rule(seconds=some((1, 20, 70, 400, 3600, 14 * 3600)), skew=some((0, 0, 0, -1, -600, -3600)))
    def later(self, seconds: int, skew: int) -> None:
        self.world.skew = timedelta(seconds=skew)
        self.world.passes(seconds)
        for symbol, known in list(self.world.quotes.items()):
            self.world.price(symbol, known.price)

    @rule(
        what=some(("kill", "release", "shut", "open", "open", "revoke", "close", "close", "redrive")),
        venue=some(sorted(VENUES)),
        level=some(("no_entries", "reduce_only", "flatten")),
    )
    def person(self, what: str, venue: str, level: str) -> None:
        self.world.person(what, venue, level)

    @invariant()
    def sound(self) -> None:
        COUNTS["steps"] += 1
        if not self.dirty:
            return
        self.dirty = False
        found = self.world.violations + invariants.at_once(self.world.venues, limits=self.world.rules)
        assert not found, found[0]

    def teardown(self) -> None:
        with self.stack:
            if not self.world.violations:
                self.world.lot.script.clear()
                self.world.finish()
                for what, times in invariants.rows(OUTCOMES):
                    COUNTS[what] += times
        assert not self.world.violations, self.world.violations[0]


class UnderLimits(MoneyPath):
    """The same under caps that bite."""

    limits = TIGHT


def run(machine: Any, *, examples: int, seed: int, shrink: bool = False) -> None:
    """Raises what the machine found."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seeded(seed)(machine), settings=chosen)


def broken(*, examples: int, seed: int) -> str:
    """The first broken rule in words; empty when none was found."""
    for machine in (MoneyPath, UnderLimits):
        try:
            run(machine, examples=examples // 2, seed=seed)
        except Exception as error:
            connection.close()
            return f"{type(error).__name__}: {error}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    with arena():
        found = broken(examples=given.examples, seed=given.seed)
    faults = sum(times for what, times in COUNTS.items() if ":" in what)
    print(
        f"T1 machines: {COUNTS['examples']} examples, {COUNTS['steps']} steps, {faults} faults, "
        f"seed {given.seed}, {time.monotonic() - began:.0f} s\n"
        f"  mix: {', '.join(f'{what} {times}' for what, times in COUNTS.most_common() if ':' in what)}\n"
        f"  came of it: {', '.join(f'{what} {times}' for what, times in COUNTS.most_common() if ':' not in what)}\n"
        f"  violations: {int(bool(found))}" + (f"\n    {found[:3000]}" if found else "")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
