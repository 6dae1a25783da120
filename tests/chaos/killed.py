"""T2: workers killed at any instruction, between a real Postgres and an exchange that lies.

    python -m tests.chaos.killed --faults 10000 --seed 1
    python -m tests.chaos.killed --faults 700 --like alpaca        with the promises of that venue's adapter

Rounds of one to three worker processes at a time run the product's own passes over the same rows; most of them die:
at a statement, at a commit, at a named step, at a random instant, or their connection to the database does. Now and
then Postgres itself is killed. Between bursts of rounds all faults stop, everything is run to its end, and the
database is compared with the exchange's own book: one order per intent, every fill booked once, nothing in flight,
positions closed by what they held, the ledger equal to the balances there, to the unit.
"""

import contextlib
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from tests.chaos import semantics
from tests.chaos.world import (
    DEADLINE_SECONDS,
    VENUES,
    Dice,
    Job,
    Plant,
    Tally,
    World,
    asked,
    run,
    settle_down,
    world,
)
from tests.passes import execute_pass, monitor_pass

STEPS = (
    "trading.entries.planning:fan_out",
    "trading.execute:_reserve",
    "trading.execute:_reserved",
    "trading.execute:advance_each",
    "trading.execute:send_orders",
    "trading.entries.planning:finish_signals",
    "trading.settle:settle_orders",
    "trading.settle:book_answers",
    "trading.settle:note_send_errors",
    "trading.settle:_handle_not_found",
    "trading.settle:apply_reports",
    "trading.settle:_book_fills",
    "trading.settle:advance_each",
    "trading.reconciliation.checks:claim",
    "trading.reconciliation.orders:reconcile_orders",
    "trading.reconciliation.holdings:_store",
    "trading.ledger:post_all",
    "tests.chaos.exchange:HttpVenue.send",
    "tests.chaos.exchange:HttpVenue.find",
    "tests.chaos.exchange:HttpVenue.cancel",
    "positions.book:open_positions",
    "positions.book:end_exits",
    "positions.exits.sweep:find_hits",
    "positions.exits.sweep:_claim",
    "maxxit.events.record:advance_all",
)
"""Functions before or after which a worker may die."""
EXIT_STEPS = (
    "tests.chaos.exchange:HttpVenue.exits",
    "tests.chaos.exchange:HttpVenue.release",
    "positions.exits.at_venue:_cancel",
    "positions.exits.at_venue:_apply",
    "positions.exits.at_venue:close_by",
    "trading.entries.resting_exits:read",
)
"""The same where the venue keeps exits."""
BURST = 120
"""Rounds between two audits."""
AGENTS, DEPLOYMENTS = 40, 2
"""Agents, and deployments of each: a deployment may enter a token once a second."""
MONEY = "10000000"
BATCHES = (1, 1, 3, 20, 500)
"""Orders that a worker places, settles or books together."""
POSTGRES_EVERY = 3
"""Bursts."""
QUIET_SECONDS, QUIET_PASSES = 60.0, 100
"""An intent that has not ended so long, and so many passes, after the last fault is lost (I3)."""
OVER = "('filled', 'blocked', 'canceled', 'rejected', 'expired', 'replaced')"


# -- what goes wrong with a worker


def die() -> None:
    """As the kernel does it when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_statement(number: int, act: Callable[[], None], *, after: bool) -> None:
    """Do `act` before or after the n-th statement of this process, commits included."""
    from django.db import connection
    from django.db.backends.base.base import BaseDatabaseWrapper

    left = iter(range(number - 1, -1, -1))

    def counted(execute: Callable[..., Any], *args: Any) -> Any:
        now = next(left, -1) == 0
        if now and not after:
            act()
        found = execute(*args)
        if now and after:
            act()
        return found

    connection.execute_wrappers.append(counted)
    kind: Any = BaseDatabaseWrapper
    commit = kind._commit
    kind._commit = lambda self: counted(commit, self)


def at_step(step: str, number: int, act: Callable[[], None], *, after: bool) -> None:
    """Do `act` before or after the n-th call of a function."""
    module, _, path = step.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real, left = getattr(owner, name), iter(range(number - 1, -1, -1))

    def wrapped(*args: Any, **options: Any) -> Any:
        now = next(left, -1) == 0
        if now and not after:
            act()
        found = real(*args, **options)
        if now and after:
            act()
        return found

    setattr(owner, name, wrapped)


def drop_connection(say: int, *, answers_only: bool) -> None:
    """The database connection breaks: at once, or so that a last statement arrives and its answer does not."""
    from django.db import connection

    if connection.connection is None:
        return
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as line:
        line.shutdown(socket.SHUT_RD if answers_only else socket.SHUT_RDWR)
    os.write(say, b"dropped\n")


def pause(seconds: float) -> None:
    """The worker stands still: its machine swaps, or its container is frozen."""
    time.sleep(seconds)


def exits_side_by_side() -> None:
    """A pass of the exits with threads; those that are still under way die with the worker."""
    from positions import tasks
    from trading.closing import Lanes

    tasks.exit_pass(Lanes(3))


def reconcile_accounts() -> None:
    """Compare the open orders and the holdings of every account with their venue, due or not."""
    from maxxit.core import clock
    from trading.reconciliation import cycle

    cycle.run(cycle.Reader(0), now=clock.now(), everything=True)


def be_patient() -> None:
    """Wait for answers: where nothing goes wrong any more, a busy machine must not look as if."""
    from trading.wiring import venue

    for name in VENUES:
        venue(name).http.timeout = 30.0  # type: ignore[attr-defined]


# -- one campaign


class Campaign:
    """T2 from its first round to its last audit."""

    def __init__(self, here: World, seed: int, *, like: str = "") -> None:
        from positions import tasks as positions
        from tests import builders as make
        from trading import tasks as trading

        self.here, self.dice, self.make = here, Dice(seed), make
        self.tally = Tally(f"T2 killed processes{f' like {like}' if like else ''}", seed)
        real = semantics.of(like) if like else None
        self.keeps_exits = real is not None and real.capabilities.resting_exits
        self.steps = STEPS + (EXIT_STEPS if self.keeps_exits else ())
        if real is not None:
            here.tell(plans=dict(real.plans))
        self.say, self.hear = os.pipe()[::-1]
        os.set_blocking(self.hear, False)
        self.slowest_end = self.slowest_recovery = 0.0
        self.intents = 0
        here.tell(seed=seed, chances={})
        self.agents = [make.agent(venue=name) for name in ("dedup", "plain") for _ in range(AGENTS // 2)]
        deposits: list[list[str]] = []
        for agent in self.agents:
            for _ in range(DEPLOYMENTS):
                deployment = make.booked_deployment(
                    agent, usdc=MONEY, account=f"{agent.venue}:{len(deposits)}"
                )
                deposits.append([deployment.account, MONEY])
        here.tell(deposits=deposits)
        self.price("2000")
        works = (trading.run_execute, positions.exit_pass, trading.settle_pass, positions.run_monitor)
        settle_down(*works, partial(close_some, 1.0))

    def price(self, usd: str) -> None:
        """The market is there."""
        self.make.price("ETH", usd)
        if self.keeps_exits:
            self.here.tell(price=usd)

    # -- rounds

    def rounds(self, count: int, limit: int) -> None:
        """Rounds of work under fire, until so many faults happened in all."""
        from tests.chaos.exchange import CHANCES

        self.here.tell(chances=CHANCES)
        before = self.exchange_faults()
        for number in range(count):
            if self.dice.random() < 0.5:
                self.signal()
            price = self.dice.choices(("2000", "2420", "1850"), (0.85, 0.1, 0.05))[0]
            self.price(price)
            jobs = [self.job() for _ in range(self.dice.choices((1, 2, 3), (0.45, 0.4, 0.15))[0])]
            run(jobs, self.say)
            self.count(jobs)
            if (
                self.tally.violations
                or self.tally.total + self.exchange_faults_quick(number, before) >= limit
            ):
                break
        self.here.tell(chances={})
        for what, times in self.exchange_faults().items():
            self.tally.count(what, times - before.get(what, 0))

    def exchange_faults(self) -> dict[str, int]:
        """What the exchange did to us so far, by kind."""
        told: dict[str, int] = self.here.ask("GET", "/book")["faults"]
        return told

    def exchange_faults_quick(self, number: int, before: dict[str, int]) -> int:
        """The same as one number, asked now and then."""
        if number % 10:
            return 0
        return int(self.here.tell()["faults"]) - sum(before.values())

    def signal(self) -> None:
        """A new intent for every deployment of one agent."""
        agent = self.dice.choice(self.agents)
        self.make.signal(agent, usd="2000")
        self.intents += DEPLOYMENTS

    def job(self) -> Job:
        """A worker with a task, and with what will happen to it."""
        from positions import tasks as positions
        from trading import tasks as trading

        works: dict[str, tuple[float, Callable[[], Any]]] = {
            "execute": (3, execute_pass),
            "entries": (1, trading.entry_pass),
            "exits": (3, positions.exit_pass),
            "exits side by side": (1, exits_side_by_side),
            "execute task": (1, trading.run_execute),
            "settle": (2, trading.settle_pass),
            "monitor": (2, monitor_pass),
            "booking": (1, positions.book_pass),
            "monitor task": (0.5, positions.run_monitor),
            "reconcile": (1, reconcile_accounts),
            "close by hand": (0.5, partial(close_some, self.dice.random())),
        }
        if self.keeps_exits:
            works["venue exits"] = (2, positions.watch_exits_pass)
        name = self.dice.choices(list(works), [weight for weight, _ in works.values()])[0]
        job = Job(name, works[name][1], batch=self.dice.choice(BATCHES))
        after = self.dice.random() < 0.5
        nth = 1 + int(self.dice.expovariate(1 / 9))
        how = self.dice.choices(
            ("statement", "step", "instant", "drop", "drop answers", "pause", "none"),
            (0.45, 0.25, 0.12, 0.06, 0.04, 0.03, 0.05),
        )[0]
        if how == "statement":
            job.harm = partial(at_statement, nth, die, after=after)
        elif how == "step":
            job.harm = partial(
                at_step, self.dice.choice(self.steps), self.dice.choice((1, 1, 1, 2, 3)), die, after=after
            )
        elif how == "instant":
            job.killed_after = 0.002 + 0.1 * self.dice.random()
        elif how.startswith("drop"):
            act = partial(drop_connection, self.say, answers_only=how != "drop")
            job.harm = partial(at_statement, nth, act, after=after)
        elif how == "pause":
            act = partial(pause, self.dice.choice((0.2, 0.5, DEADLINE_SECONDS + 0.6)))
            job.harm = partial(at_step, self.dice.choice(self.steps), 1, act, after=after)
        job.name = f"{name} ({how})"
        return job

    def count(self, jobs: Sequence[Job]) -> None:
        """What really happened in a round."""
        for job in jobs:
            how = job.name.partition("(")[2].rstrip(")")
            if job.hung:
                self.tally.violations.append(f"{job.name} hung")
            elif job.died:
                self.tally.count(f"SIGKILL at a {how}" if how != "instant" else "SIGKILL at an instant")
            if how == "pause" and not job.died:
                self.tally.count("pause")
        if len(jobs) > 1:
            self.tally.count("second worker on the same rows", len(jobs) - 1)
        self.listen()

    def listen(self) -> None:
        """What the workers wrote: broken connections, and errors that nobody expected."""
        with contextlib.suppress(BlockingIOError):
            while text := os.read(self.hear, 65536).decode(errors="replace"):
                for line in text.splitlines():
                    if line == "dropped":
                        self.tally.count("database connection broken")
                    else:
                        self.tally.violations.append(f"a worker failed: {line[-700:]}")

    def kill_postgres(self) -> None:
        """In the middle of a worker's pass; the time until a pass ends well again is the recovery."""
        from trading import tasks as trading

        began = time.monotonic()
        job = Job("execute", execute_pass)
        job.pid = os.fork()
        if not job.pid:
            from tests.chaos.world import _work

            _work(job, self.say)
        time.sleep(0.03 * self.dice.random())
        self.here.kill_postgres()
        os.waitpid(job.pid, 0)
        while time.monotonic() - began < 30:
            again = Job("settle", trading.settle_pass)
            run([again], self.say)
            if again.status == 0:
                break
        self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - began)
        self.tally.count("SIGKILL of Postgres")
        self.listen()

    # -- to the end, and what must hold then

    def finish(self) -> None:
        """No more faults: run every task until nothing is in flight, then close what is open, then audit."""
        from positions import tasks as positions
        from trading import tasks as trading

        began = time.monotonic()
        self.price("2000")
        passes = 0
        while (busy := self.busy()) and (time.monotonic() - began < QUIET_SECONDS or passes < QUIET_PASSES):
            passes += 1
            self.price("2000")
            works: list[Callable[[], object]] = [
                trading.run_execute,
                positions.exit_pass,
                positions.run_monitor,
            ]
            works += [trading.settle_pass, partial(close_some, 1.0)]
            if self.keeps_exits:
                works.append(positions.watch_exits_pass)
            for work in works:
                run([Job("drain", work, harm=be_patient)], self.say)
            self.listen()
            time.sleep(0.02)
        self.slowest_end = max(self.slowest_end, time.monotonic() - began)
        if busy:
            self.tally.violations.append(f"not at its end {passes} passes after the last fault: {busy}")
        self.tally.violations += [f"{what}: {rows}" for what, rows in self.audit()]

    def busy(self) -> str:
        """What is still on its way, in words; empty when nothing is."""
        waiting = {
            "late orders": int(self.here.tell()["late"]),
            "orders": self.number(f"SELECT count(*) FROM orders WHERE state NOT IN {OVER}"),
            "signals": self.number("SELECT count(*) FROM signals WHERE state = 'pending'"),
            "positions": self.number("SELECT count(*) FROM positions WHERE state <> 'closed'"),
            "unbooked": self.number(
                "SELECT count(*) FROM orders WHERE purpose = 'open' AND filled_quantity > booked_quantity"
            ),
            "entries whose exits rest": self.number(
                "SELECT count(*) FROM orders WHERE exits_at_venue = 'resting'"
            ),
        }
        return ", ".join(f"{count} {what}" for what, count in waiting.items() if count)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def number(self, sql: str) -> int:
        """The one number that `sql` gives."""
        return int(self.rows(sql)[0][0])

    def audit(self) -> list[tuple[str, Any]]:
        """Each rule that is broken, and by what."""
        from tests.chaos.invariants import different_books

        book = self.here.ask("GET", "/book")
        broken: list[tuple[str, Any]] = [
            (what, found) for what, sql in SOUND.items() if (found := self.rows(sql)[:5])
        ]
        doubles = {ref: times for ref, times in book["effects"].items() if times > 1}
        ours = {ref: state for ref, state in self.rows("SELECT venue_ref, state FROM orders")}
        there = {one["ref"]: one for one in book["orders"]}
        strangers = sorted(set(there) - set(ours))
        forgotten = [
            f"{ref} is {ours[ref]} here and {one['state']} with {one['filled']} there"
            for ref, one in there.items()
            if ref in ours and (Decimal(one["filled"]) > 0) != (ours[ref] in ("filled", "canceled"))
        ]
        fills = {one["id"]: _figures(one["quantity"], one["cash"], one["fee"]) for one in book["fills"]}
        booked = {
            fill: _figures(*figures)
            for fill, *figures in self.rows("SELECT venue_fill_id, quantity, cash, fee FROM fills")
        }
        balances = {(a, asset): Decimal(amount) for a, asset, amount in book["balances"]}
        ledger = {
            (account, asset): amount
            for account, asset, amount in self.rows(
                "SELECT d.account, l.asset, sum(l.amount) FROM ledger_balances l "
                "JOIN agent_deployments d ON l.account = 'deployment:' || d.id GROUP BY 1, 2"
            )
        }
        drift = [
            f"{key}: {balances.get(key, 0)} there, {ledger.get(key, 0)} in the ledger"
            for key in sorted(set(balances) | set(ledger))
            if balances.get(key, Decimal(0)) != ledger.get(key, Decimal(0))
        ]
        oversold = [one for one in book["lowest"] if one[1] != "USDC" and Decimal(one[2]) < 0]
        for what, found in {
            "double: an order took effect more than once": sorted(doubles.items()),
            "lost: the exchange holds an order that we do not know": strangers,
            "lost: an order executed there and ended otherwise here": forgotten,
            "lost: an execution was never booked": sorted(set(fills) - set(booked)),
            "an execution was booked that never was": sorted(set(booked) - set(fills)),
            "an execution was booked otherwise": [f for f in fills if f in booked and fills[f] != booked[f]],
            "drift: ledger and exchange differ": drift,
            "more was sold than held": oversold,
            "an exit is left at the venue": book["live exits"],
            "figures: positions and ledger differ": different_books(),
        }.items():
            if found:
                broken.append((what, f"{len(found)}: {found[:5]}"))
        return broken


SOUND = {
    "double: an intent has more than one order": """
        SELECT deployment_id, signal_id, count(*) FROM orders WHERE purpose = 'open'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "lost: a signal has no order for a deployment": """
        SELECT s.id, d.id FROM signals s JOIN agent_deployments d USING (agent_id)
        WHERE NOT EXISTS (SELECT FROM orders o WHERE o.signal_id = s.id AND o.deployment_id = d.id)""",
    "lost: an order was set aside": "SELECT id, state, right(last_error, 300) FROM orders WHERE attempts >= 3",
    "an order that came to nothing has no reason": """
        SELECT id, state FROM orders WHERE state IN ('blocked', 'rejected', 'expired') AND reason = ''""",
    "double: a position was closed by more or less than it held": """
        SELECT p.id, p.quantity, p.closed_quantity FROM positions p WHERE state = 'closed' AND quantity <> (
            SELECT sum(f.quantity) FROM fills f JOIN orders o ON o.id = f.order_id
            WHERE o.closes_id = p.entry_order_id)""",
    "an entry that filled has not one position of its size": """
        SELECT o.id FROM orders o LEFT JOIN positions p ON p.entry_order_id = o.id
        WHERE o.purpose = 'open' AND o.filled_quantity > 0 AND o.filled_quantity IS DISTINCT FROM p.quantity""",
    "drift: the ledger does not sum to zero": """
        SELECT asset, sum(amount) FROM ledger_entries GROUP BY 1 HAVING sum(amount) <> 0""",
    "drift: a fee was not booked once": """
        SELECT o.id FROM orders o WHERE purpose = 'open' AND filled_quantity > 0 AND (
            SELECT count(*) FROM ledger_entries
            WHERE order_id = o.id AND kind = 'platform_fee' AND amount > 0) <> 1""",
    "drift: a profit share was not booked once": """
        SELECT p.id FROM positions p WHERE state = 'closed' AND profit_share <> coalesce((
            SELECT sum(l.amount) FROM ledger_entries l JOIN orders o ON o.id = l.order_id
            WHERE o.closes_id = p.entry_order_id AND l.kind = 'profit_share' AND l.amount > 0), 0)""",
    "an order took a step that is not in its events": """
        SELECT o.id, o.state FROM orders o WHERE o.state <> 'planned' AND NOT EXISTS (
            SELECT FROM events e WHERE e.subject = 'trading.order/' || o.id AND e.name IN (
                'order.' || o.state, CASE o.state WHEN 'filled' THEN 'execution.completed'
                                                  WHEN 'blocked' THEN 'execution.blocked' END))""",
}
"""What must be true when all is quiet -> rows that break it."""


def _figures(*numbers: Any) -> tuple[Decimal, ...]:
    return tuple(Decimal(number).normalize() for number in numbers)


def close_some(share: float) -> int:
    """A person closes so many of the open positions by hand."""
    from positions.exits import sweep
    from positions.models import Position

    ids = list(Position.objects.filter(state="open").order_by("pk").values_list("pk", flat=True))
    return sweep.close(ids[: round(len(ids) * share)])


def campaign(faults: int, seed: int, plant: Plant = None, like: str = "") -> Tally:
    """One campaign in a world of its own; `plant` changes the product first (a mutant)."""
    with world(like) as here:
        if plant:
            plant()
        one = Campaign(here, seed, like=like)
        for number in range(10**6):
            one.rounds(BURST, faults)
            if number % POSTGRES_EVERY == 0:
                one.kill_postgres()
            one.finish()
            if one.tally.total >= faults or one.tally.violations:
                break
            if faults > 2000:
                print(
                    f"{one.tally.total} faults after {time.monotonic() - one.tally.began:.0f} s",
                    file=sys.stderr,
                )
        orders = one.rows("SELECT state, count(*) FROM orders GROUP BY 1 ORDER BY 2 DESC")
        one.tally.figures = {
            "orders": ", ".join(f"{state} {count}" for state, count in orders),
            "positions closed": one.number("SELECT count(*) FROM positions"),
            "all at their end after the last fault": f"{one.slowest_end:.1f} s at most",
            "workers back after Postgres was killed": f"{one.slowest_recovery:.1f} s at most",
        }
        return one.tally


if __name__ == "__main__":
    sys.exit(asked(__doc__, "faults", 1000, campaign, like=True))
