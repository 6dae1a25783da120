"""T0: the product's own passes in one process, on a recorded clock, under faults drawn from one seed.

    python -m tests.chaos.simulation --faults 1000000 --seed 1      prints N, seed, mix, wall time, violations
    python -m tests.chaos.simulation --faults 100000 --like coinbase        with the promises of that venue's adapter

A *world* is a few agents on two venues (one recognises repeats, one does not), deployments, signals over time, prices,
and persons who pull and release the kill switch. Its workers are the passes of the workers (`TASKS`) on a real
Postgres with real commits. What goes wrong is counted when it took effect, one by one:

* a message between us and the venue: lost, late, doubled, answered wrongly, slowly or not at all (`simulation_venue`);
* a worker dies, or loses the database, before or after a statement or a commit; what was not committed is gone;
* another worker does its pass, or a person pulls the switch, while the first waits for an answer;
* a task's message is lost, delivered twice, or late; the clock jumps, also backwards; a price is stale, absurd or NaN.

Afterwards all faults stop, everything is run to its end, and the database is compared with the venues' books
(`invariants`). A world is made from (seed, its number) alone, so that one number reproduces it:
`--seed S --world N`.
"""

import argparse
import logging
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.db import OperationalError, connection

from maxxit.core.money import ZERO
from maxxit.core.terms import KILL_LEVELS
from tests.chaos import semantics
from tests.chaos.simulation_venue import Crash, Lot, SimulatedVenue
from trading.venues.base import Prepared, Request

if TYPE_CHECKING:
    from agents.models import Agent

D = Decimal
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
VENUES = {"paper": True, "safe": False}
"""Name of the venue, from config/venues.yaml -> whether it recognises a repeated client order id here."""
LAGS = (0, 1, 30, 600, 2700)
"""Seconds for which a venue may deny what it has taken."""
AGENTS, SIGNALS = 4, 3
"""Of a world; of an agent."""
MONEY = D(1_000_000)
TASKS = {
    "execute": "trading.tasks:entry_pass",
    "exits": "positions.tasks:exit_pass",
    "settle": "trading.tasks:settle_pass",
    "monitor": "positions.tasks:book_pass",
    "venue exits": "positions.tasks:watch_exits_pass",
}
SWEEPS = {"execute": 0.3, "exits": 0.3, "settle": 1.0, "monitor": 0.2, "venue exits": 0.2}
"""How often each runs by the clock, a round."""
BATCHES = (1, 1, 3, 20, 500)
"""Orders that a venue takes together; and that are booked together."""
POLLS = 8
"""Looks at all orders in flight, a round: a venue that is away is asked again and again."""
LONGEST_END = timedelta(minutes=10)
"""After the last deadline and the longest denial, nothing may still be on its way (I3)."""
WIDE: dict[str, Any] = {
    "account": {
        "max_orders_per_minute": 1000,
        "max_orders_per_symbol_per_day": 1000,
        "max_open_orders": 1000,
        "cooldown_seconds_per_symbol": 1,
        "max_total_exposure_usd": D(10**9),
        "max_symbol_exposure_usd": D(10**9),
    },
    "platform": {
        "max_orders_per_minute": 10_000,
        "max_open_orders": 10_000,
        "max_total_exposure_usd": D(10**9),
        "max_symbol_exposure_usd": D(10**9),
    },
    "allow_add_to_position": True,
}
TIGHT: dict[str, Any] = {
    "account": {
        "max_orders_per_minute": 1,
        "max_orders_per_symbol_per_day": 2,
        "max_open_orders": 2,
        "cooldown_seconds_per_symbol": 300,
        "max_total_exposure_usd": D(3000),
        "max_symbol_exposure_usd": D(2000),
    },
    "platform": {
        "max_orders_per_minute": 6,
        "max_open_orders": 8,
        "max_total_exposure_usd": D(15_000),
        "max_symbol_exposure_usd": D(9000),
    },
    "allow_add_to_position": True,
}
"""Each cap can be the one that bites: two symbols, three signals a deployment, a cooldown beyond the minute."""


PERSONS = ("kill", "kill", "release", "shut", "shut", "open", "revoke", "close", "close", "redrive")
HOURS = (0.05, 48)
"""For which an approval stands: one that ends while orders are on their way, and one that does not."""
BAD_PRICES = ("missing", "stale", "zero", "negative", "NaN", "ten times", "from the future")


@dataclass
class Believed:
    """A good price that was accepted."""

    price: Decimal
    at: datetime


@dataclass
class Grant:
    """An approval as the person who gave it remembers it."""

    at: datetime
    until: datetime


@dataclass
class World:
    """One run from its first signal to its audit."""

    seed: str
    counts: Counter[str]
    intensity: float | None = None
    """How often things go wrong; drawn where not given."""
    deployments: int = 12
    """Of an agent. Pairs in all: agents × signals × deployments."""
    rounds: int = 100
    agents_wanted: int = AGENTS
    keeps_exits: float = 0.5
    """How often the venue that recognises repeats keeps the exits of its entries, too."""
    like: str = ""
    """Both venues promise what this venue of the product does (`semantics`); drawn where not given."""
    limits: dict[str, Any] | None = None
    """Over config/risk.yaml; drawn where not given."""
    violations: list[str] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        chosen = self.dice.choice((0.3, 0.6, 0.9, 1.0, 1.0)) if self.intensity is None else self.intensity
        self.lot = Lot(random.Random(f"{self.seed} messages"), self.counts, chosen)
        self.true = START + timedelta(minutes=self.dice.randrange(24 * 60))
        self.skew = timedelta(0)
        """Our clock less the true one, which is the venues': zero or behind."""
        self.clock = ExitStack()
        self.fuse, self.burns = 0, ("", "")
        self.depth = self.statements = 0
        self.open = dict.fromkeys(VENUES, True)
        self.grants: dict[str, list[Grant]] = {name: [] for name in VENUES}
        self.levels: set[str] = set()
        self.batch = self.dice.choice(BATCHES)
        self.quotes: dict[str, Believed] = {}
        self.batch_of: tuple[str, list[tuple[str, str, Decimal]]] = ("", [])
        """The transaction that reserves a batch, and the (account, symbol, tokens) of its entries so far."""
        self.waiting: list[tuple[int, str]] = []
        self.signals = 0
        drawn = self.dice.choice((WIDE, WIDE, TIGHT))
        self.rules = drawn if self.limits is None else self.limits
        self.venues = {name: self._venue(name, dedup) for name, dedup in VENUES.items()}
        self.deadlines = [self.true]

    def _venue(self, name: str, dedup: bool) -> SimulatedVenue:
        lag, most = timedelta(seconds=self.dice.choice(LAGS)), self.dice.choice(BATCHES)
        keeps_exits = self.dice.random() < self.keeps_exits
        if not self.like:
            return SimulatedVenue(
                name,
                self,
                self.lot,
                dedup=dedup,
                find_lag=lag,
                batch=most,
                resting_exits=dedup and keeps_exits,
            )
        real = semantics.of(self.like)
        self.lot.plans = real.plans
        return SimulatedVenue(
            name, self, self.lot,
            dedup=real.capabilities.dedup,
            find_lag=real.capabilities.find_lag,
            batch=min(most, real.capabilities.batch),
            resting_exits=real.capabilities.resting_exits and keeps_exits,
        )  # fmt: skip

    # -- what the venues ask of the world

    def true_now(self) -> datetime:
        """The time."""
        return self.true

    def now(self) -> datetime:
        """The time as our machine has it."""
        return self.true + self.skew

    def passes(self, seconds: float) -> None:
        """Time goes by."""
        from maxxit.core import clock

        self.true += timedelta(seconds=seconds)
        self.clock.close()
        self.clock.enter_context(clock.frozen(self.now()))

    def believed(self, symbol: str) -> Decimal | None:
        """The last good price."""
        found = self.quotes.get(symbol)
        return found.price if found else None

    def reserved(self, request: Request) -> None:
        """An order is about to be reserved: at a price that we gave, and that is fresh (I13)."""
        self.deadlines.append(request.deadline)
        known = self.quotes.get(request.symbol)
        if known is None or known.price != request.reference_price:
            self.broken(f"I13: {request.symbol} at {request.reference_price}, the good price was {known}")
        elif self.now() - known.at > timedelta(seconds=90) and not request.urgent:
            self.broken(f"I13: a price of {self.now() - known.at} ago was used")
        if request.purpose == "open" and known is not None:
            self.carried(request, known.price)

    def carried(self, request: Request, price: Decimal) -> None:
        """An entry is about to be reserved: what is held and in flight can be valued, and stays under the caps (I8)."""
        from tests.chaos import invariants

        fuse, self.fuse = self.fuse, 0
        held = invariants.rows(invariants.CARRIED)
        [[batch]] = invariants.rows("SELECT pg_current_xact_id()::text")
        self.fuse = fuse
        if batch != self.batch_of[0]:
            self.batch_of = (batch, [])
        tokens = request.quantity if request.side == "buy" else -request.quantity
        held = _together([*held, *self.batch_of[1]])
        self.batch_of[1].append((request.account, request.symbol, tokens))
        worth = {(request.account, request.symbol): ZERO}
        for account, symbol, quantity in held:
            if self.now() - self.quotes[symbol].at > timedelta(seconds=90):
                self.broken(f"I8: {request.symbol} was entered while the {symbol} that is held had no price")
            key = account, symbol
            worth[key] = worth.get(key, ZERO) + abs(quantity) * self.quotes[symbol].price
        worth[request.account, request.symbol] += request.quantity * price
        mine, all_ = self.rules["account"], self.rules["platform"]
        for what, total, cap in (
            ("of all", sum(worth.values()), all_["max_total_exposure_usd"]),
            ("of all in it", _sum(worth, 1, request.symbol), all_["max_symbol_exposure_usd"]),
            ("of the account", _sum(worth, 0, request.account), mine["max_total_exposure_usd"]),
            ("of the account in it", worth[request.account, request.symbol], mine["max_symbol_exposure_usd"]),
        ):
            if total > cap:
                self.broken(f"I8: exposure {what} would be {total}, the cap is {cap} ({request.symbol})")

    def leaves(self, venue: str, prepared: Prepared) -> None:
        """An order leaves: the gate must be open at this very moment (I7)."""
        exits = prepared.payload["purpose"] == "close"
        # An approval that only expired lets exits leave; a revoked one is no grant any more.
        granted = any(g.at <= self.now() and (exits or self.now() < g.until) for g in self.grants[venue])
        if not self.open[venue] or not granted:
            self.broken(f"I7: {prepared.ref} left for {venue} while its gate was shut")
        elif self.levels and not exits:
            self.broken(f"I7: the entry {prepared.ref} left while the switch was on ({self.levels})")

    def meanwhile(self) -> None:
        """While a worker waits for an answer, another one does its pass, or a person acts."""
        if self.depth or connection.in_atomic_block:
            return
        self.depth += 1
        fuse, self.fuse = self.fuse, 0
        try:
            if self.dice.random() < 0.2:
                self.person()
            else:
                self.lot.counts["worker: another on the same rows"] += 1
                self.work(self.dice.choice(list(TASKS)))
            self.passes(self.dice.choice((0.1, 2, 20)))  # the answer was so long on its way
        finally:
            self.depth -= 1
            self.fuse = fuse

    def broken(self, what: str) -> None:
        """A rule was broken."""
        self.violations.append(f"{what} [world {self.seed}]")

    # -- the workers

    def work(self, task: str) -> None:
        """One delivery of a task. The worker may die of it."""
        module, _, name = TASKS[task].partition(":")
        try:
            getattr(sys.modules[module], name)()
        except Crash:
            pass
        except OperationalError as error:
            if "simulated" not in str(error):
                raise
        except Exception:
            self.broken(f"{task} failed: {traceback.format_exc(limit=-5)}".replace("\n", " | "))
        if not self.depth:
            self.fuse = 0
        connection.run_on_commit.clear()

    def commit(self) -> None:
        """In place of the connection's own commit."""
        self.burn(_commit)

    def burn(self, act: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Around every statement and commit: the worker's end comes before or after the n-th of them."""
        self.statements += 1
        if not self.fuse:
            return act(*args, **options)
        self.fuse -= 1
        if self.fuse:
            return act(*args, **options)
        what, when = self.burns
        kind = "commit" if act is _commit else "statement"
        self.lot.counts[f"worker: {what} {when} a {kind}"] += 1
        found = None
        if when == "after":
            found = act(*args, **options)
        elif act is _commit:
            connection.connection.rollback()
        if what == "dies":
            raise Crash
        if what == "loses the database":
            raise OperationalError("simulated: the connection is gone")
        return found

    # -- what happens in it

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Take the product's edges over: clock, venues, limits, wakes, statements."""
        from maxxit.events import wake
        from positions.exits import at_venue
        from trading import passes, wiring
        from trading.risk import policy as policies

        real = policies.load
        stricter = {
            name: getattr(policies.policy(), name).model_copy(update=value)
            if isinstance(value, dict)
            else value
            for name, value in self.rules.items()
        }
        limits = policies.policy().model_copy(update=stricter)
        opening = wiring.VENUES.open
        with ExitStack() as stack:
            stack.callback(self.clock.close)
            stack.callback(connection.__dict__.pop, "_commit", None)
            stack.callback(wiring.venue.cache_clear)
            stack.callback(setattr, wiring.VENUES, "open", opening)
            stack.callback(policies.policy.cache_clear)
            stack.callback(setattr, policies, "load", real)
            self.woken = stack.enter_context(wake.collected())
            stack.enter_context(connection.execute_wrapper(self.burn))
            connection._commit = self.commit  # type: ignore[attr-defined]
            exits = passes.policy().exits.model_copy(update={"entries_wait_seconds": 0})
            sizes = passes.policy().model_copy(update={"batch": self.batch, "exits": exits})
            stack.enter_context(patch.object(passes, "policy", lambda: sizes))
            stack.enter_context(patch.object(at_venue, "PAUSES", (0.0, 0.0)))
            policies.load = lambda name, schema: limits  # type: ignore[assignment, return-value]
            policies.policy.cache_clear()
            wiring.VENUES.open = lambda adapter, **options: self.venues[adapter]  # type: ignore[method-assign]
            wiring.venue.cache_clear()
            yield

    def run(self) -> None:
        """The whole world."""
        with self.set_up():
            self.passes(0)
            self.found()
            for number in range(self.rounds):
                self.round(number)
                if self.violations:
                    return
            self.finish()

    def found(self) -> None:
        """Agents, deployments, prices, open gates."""
        from tests import builders as make

        presets = ("conservative", "moderate", "aggressive")
        self.agents: list[Agent] = []
        for number in range(self.agents_wanted):
            preset = self.dice.choice(presets)
            agent = make.agent(
                venue=list(VENUES)[number % 2], sizing_preset=preset, exit_preset=self.dice.choice(presets)
            )
            self.agents.append(agent)
            for _ in range(self.deployments):
                deployment = make.booked_deployment(agent, usdc=str(MONEY))
                self.venues[agent.venue].deposit(deployment.account, MONEY)
        for name in VENUES:
            self.let(name, hours=self.dice.choice(HOURS))
        for symbol, usd in (("ETH", 2000), ("BTC", 60_000)):
            self.price(symbol, D(usd))

    def let(self, venue: str, hours: float) -> None:
        """A person opens a gate."""
        from trading import gate

        gate.set_dry_run(venue, False, by="sim", reason="sim")
        until = self.now() + timedelta(hours=hours)
        gate.approve(venue, by="sim", until=until, reason="sim")
        self.open[venue] = True
        self.grants[venue].append(Grant(self.now(), until))

    def price(self, symbol: str, usd: Decimal) -> None:
        """A good tick."""
        from maxxit.market import quotes
        from maxxit.market.feeds.base import Tick

        if quotes.accept([Tick(symbol, usd, self.now(), "coinbase")]):
            self.quotes[symbol] = Believed(usd, self.now())

    def round(self, number: int) -> None:
        """A little time, prices, perhaps a signal or a person, and the tasks that are due."""
        from tests.chaos import invariants

        self.time_goes_by()
        for venue in self.venues.values():
            venue.resting.market(self.believed)
        for symbol, known in list(self.quotes.items()):
            old = self.now() - known.at > timedelta(seconds=60)
            if self.dice.random() < (0.8 if old else 0.3):
                self.market(symbol)
        if self.signals < AGENTS * SIGNALS and self.dice.random() < 0.25:
            self.signal()
        if self.dice.random() < 0.08:
            self.person()
        elif self.dice.random() < 0.3:
            self.reopen()
        self.deliver(number)
        due = [task for when, task in self.waiting if when <= number]
        self.waiting = [one for one in self.waiting if one[0] > number]
        due += [task for task, often in SWEEPS.items() if self.dice.random() < often]
        for task in [*due, *(["settle"] * POLLS)]:
            if self.dice.random() < 0.55 * self.lot.intensity:
                self.fuse = 1 + int(self.dice.expovariate(1 / 22))
                what = self.dice.choices(("dies", "loses the database"), (0.8, 0.2))[0]
                self.burns = (what, self.dice.choice(("before", "after")))
            self.work(task)
        self.violations += [f"{what} [world {self.seed}]" for what in invariants.moments()]

    def deliver(self, number: int) -> None:
        """The wakes of the last round become messages, some of which go astray."""
        from maxxit.pipeline.stages import SWEEPS as SWEPT

        names = {stage.task: stage.name for stage in SWEPT}
        for task in sorted(self.woken):
            name = names.get(task, "")
            if name not in TASKS:
                continue
            point = self.dice.random() / (self.lot.intensity or 1e-9)
            if point < 0.2:
                self.lot.counts["task: message lost"] += 1
            elif point < 0.3:
                self.lot.counts["task: delivered twice"] += 1
                self.waiting += [(number, name), (number, name)]
            elif point < 0.4:
                self.lot.counts["task: late"] += 1
                self.waiting.append((number + self.dice.randrange(1, 6), name))
            else:
                self.waiting.append((number, name))
        self.woken.clear()

    def time_goes_by(self) -> None:
        """Seconds mostly; now and then the machine sleeps for hours, or its clock is set back."""
        point = self.dice.random()
        if point < (0.15 if self.levels else 0.03) * self.lot.intensity:  # a switch must outlast the night
            self.lot.counts["clock: jumps ahead"] += 1
            midnight = (self.true + timedelta(days=1)).replace(hour=0, minute=0, second=1)
            night = (midnight - self.true).total_seconds()
            self.passes(night if self.levels else self.dice.choice((600, 3600, 4 * 3600, night)))
        elif 0.15 <= point / (self.lot.intensity or 1) < 0.17 and self.lot.intensity:
            self.lot.counts["clock: set back"] += 1
            self.skew = -timedelta(seconds=self.dice.choice((1, 30, 600, 3600)))
        elif point >= 0.93:
            self.skew = timedelta(0)
        self.passes(self.dice.choice((0.2, 1, 2, 5, 15, 40)))

    def market(self, symbol: str) -> None:
        """The next price of a symbol, or what a broken source says."""
        step = D(self.dice.choice((-60, -25, -10, -3, 0, 3, 10, 25, 60))) / 10_000
        usd = (self.quotes[symbol].price * (1 + step)).quantize(D("0.01"))
        if self.dice.random() < 0.25 * self.lot.intensity:
            self.bad_price(symbol, usd, self.dice.choice(BAD_PRICES))
        else:
            self.price(symbol, usd)

    def bad_price(self, symbol: str, usd: Decimal, what: str) -> None:
        """A tick that must not be believed."""
        from maxxit.market import quotes
        from maxxit.market.feeds.base import Tick

        now = self.now()
        if what == "ten times" and abs(now - self.quotes[symbol].at) >= timedelta(seconds=300):
            return  # after so long it would be believed, and rightly
        self.lot.counts[f"price: {what}"] += 1
        if what == "missing":
            return
        price, at = {
            "stale": (usd, now - timedelta(seconds=self.dice.choice((91, 3600)))),
            "zero": (D(0), now),
            "negative": (-usd, now),
            "NaN": (D("NaN"), now),
            "ten times": (usd * 10, now),
            "from the future": (usd, now + timedelta(minutes=2)),
        }[what]
        if quotes.accept([Tick(symbol, price, at, "coinbase")]):
            self.broken(f"I13: a price that is {what} was accepted: {price} at {at}")

    def signal(self) -> None:
        """A new intent for every deployment of one agent."""
        symbol = self.dice.choice(list(self.quotes))
        hours = self.dice.choice((0.05, 6, 6, 6))
        self.intend(symbol, self.dice.choice(("long", "long", "short")), hours)

    def intend(self, symbol: str, side: str, hours: float) -> None:
        """The same, of this."""
        from tests import builders as make

        make.signal(
            self.agents[self.signals % len(self.agents)],
            token=symbol,
            side=side,
            usd=str(self.quotes[symbol].price),
            expires_at=self.now() + timedelta(hours=hours),
        )
        self.signals += 1

    def person(self, what: str = "", venue: str = "", level: str = "") -> None:
        """Someone turns a switch, or closes by hand, or redrives what was set aside."""
        from positions.exits import sweep
        from positions.models import Position
        from trading import gate, quarantine
        from trading.models import Order

        what = what or self.dice.choice(PERSONS)
        venue = venue or self.dice.choice(list(VENUES))
        level = level or self.dice.choice(KILL_LEVELS)
        if what == "kill":
            gate.kill(level, by="sim", reason="sim")
            self.levels.add(level)
        elif what == "release":
            gate.release(by="sim", reason="sim")
            self.levels.clear()
        elif what == "shut":
            gate.set_dry_run(venue, True, by="sim", reason="sim")
            self.open[venue] = False
        elif what == "open":
            self.let(venue, hours=self.dice.choice(HOURS))
        elif what == "revoke":
            gate.revoke(venue, by="sim", reason="sim")
            self.grants[venue].clear()
        elif what == "close":
            held = list(Position.objects.order_by("pk").values_list("pk", flat=True))
            sweep.close(self.dice.sample(held, (len(held) + 2) // 3))
        else:
            quarantine.redrive(list(Order.objects.filter(attempts__gte=1).values_list("pk", flat=True)))

    def reopen(self) -> None:
        """Whoever pulled a switch lets go of it."""
        from trading import gate

        if self.levels:
            gate.release(by="sim", reason="sim")
            self.levels.clear()
        for venue in VENUES:
            if not self.open[venue] or not any(g.until > self.now() for g in self.grants[venue]):
                self.let(venue, hours=self.dice.choice(HOURS))

    # -- the end

    def finish(self) -> None:
        """No more faults. Everything must come to its end by itself; then what is open is closed; then the audit."""
        from positions.exits import sweep
        from positions.models import Position
        from tests.chaos import invariants
        from trading import gate, quarantine
        from trading.models import Order

        self.lot.intensity, self.fuse, self.skew = 0.0, 0, timedelta(0)
        for name in VENUES:
            self.let(name, hours=1000)
        gate.release(by="sim", reason="sim")
        self.levels.clear()
        quarantine.redrive(list(Order.objects.values_list("pk", flat=True)))
        lag = max(one.capabilities.find_lag for one in self.venues.values())
        until = max(self.true, *self.deadlines) + lag + LONGEST_END
        steps = iter((1, 1, 5, 10, 30, 60, 120, 120))
        busy = invariants.busy(self.venues)
        while busy and self.true < until:
            self.passes(next(steps, 300))
            for venue in self.venues.values():
                venue.arrive()
                venue.resting.market(self.believed)
            for symbol, known in list(self.quotes.items()):
                self.price(symbol, known.price)
            for task in TASKS:
                self.work(task)
            sweep.close(list(Position.objects.filter(state="open").values_list("pk", flat=True)))
            busy = invariants.busy(self.venues)
        if busy:
            self.broken(f"I3: not at its end {LONGEST_END} after the last deadline: {busy}")
        for what in invariants.audit(self.venues, limits=self.rules):
            self.broken(what)


def _sum(worth: Mapping[tuple[str, str], Decimal], place: int, name: str) -> Decimal:
    return sum((usd for key, usd in worth.items() if key[place] == name), ZERO)


def _together(held: list[tuple[str, str, Decimal]]) -> list[tuple[str, str, Decimal]]:
    """One row per account and symbol."""
    sums: Counter[tuple[str, str]] = Counter()
    for account, symbol, tokens in held:
        sums[account, symbol] += tokens  # type: ignore[assignment]
    return [(*key, Decimal(tokens)) for key, tokens in sums.items()]


def _commit() -> None:
    connection.connection.commit()


def wipe() -> None:
    """Empty every table, past the triggers that keep the ledger."""
    tables = [name for name in connection.introspection.table_names() if name not in KEPT]
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE")
        cursor.execute("SET session_replication_role = origin")


KEPT = ("django_migrations", "django_content_type", "auth_permission")


@dataclass
class Campaign:
    """Worlds, one after the other, until so many faults happened or a rule was broken."""

    seed: int
    deployments: int = 12
    rounds: int = 100
    like: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    worlds: int = 0
    statements: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        """That took effect."""
        return sum(self.counts.values())

    def run(
        self, faults: int, *, first: int = 0, tell: Callable[[str], None] = lambda text: None
    ) -> "Campaign":
        """Until there were so many."""
        began, told = time.monotonic(), 0.0
        while self.faults < faults and not self.violations:
            world = World(
                f"{self.seed}:{first + self.worlds}",
                self.counts,
                deployments=self.deployments,
                rounds=self.rounds,
                like=self.like,
            )
            wipe()
            world.run()
            self.worlds += 1
            self.violations += world.violations
            self.statements += world.statements
            self._outcome()
            self.seconds = time.monotonic() - began
            if self.seconds - told > 30:
                told = self.seconds
                tell(f"{self.faults} faults in {self.worlds} worlds after {self.seconds:.0f} s")
        return self

    def _outcome(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT purpose || ' ' || state || CASE state WHEN 'blocked' THEN ' ' || reason ELSE '' END, count(*) "
                "FROM orders GROUP BY 1 "
                "UNION ALL SELECT 'position ' || state, count(*) FROM positions GROUP BY 1"
            )
            self.outcomes.update(dict(cursor.fetchall()))

    def report(self) -> str:
        """What a person reads."""
        rate = self.faults / self.seconds if self.seconds else 0
        like = f" like {self.like}" if self.like else ""
        lines = [
            f"T0 simulation{like}: {self.faults} faults in {self.worlds} worlds, seed {self.seed}, "
            f"{self.seconds:.0f} s ({rate:.0f} faults a second, {self.statements} statements)",
            "  mix: " + ", ".join(f"{what} {times}" for what, times in self.counts.most_common()),
            "  came of it: " + ", ".join(f"{what} {times}" for what, times in self.outcomes.most_common()),
            f"  violations: {len(self.violations)}",
            *(f"    {one[:1500]}" for one in self.violations[:10]),
        ]
        return "\n".join(lines)


def course(seed: str, *, deployments: int, rounds: int) -> list[tuple[Any, ...]]:
    """Every event of one world in its order (I25): the same seed has the same."""
    wipe()
    world = World(seed, Counter(), deployments=deployments, rounds=rounds)
    world.run()
    with connection.cursor() as cursor:
        cursor.execute("SELECT at, name, subject FROM events ORDER BY id")
        return list(cursor.fetchall())


@contextmanager
def arena() -> Iterator[None]:
    """A Postgres of its own, with the product's tables, for a command outside of pytest."""
    import os

    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    os.environ |= {"DJANGO_SETTINGS_MODULE": "maxxit.settings", "LOG_LEVEL": "CRITICAL"}
    from tests import servers

    servers.start()
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        with quiet():
            yield
    finally:
        connection.close()
        servers.pytest_unconfigure()


@contextmanager
def quiet() -> Iterator[None]:
    """Import what the workers need; no log lines, of which a fault would write ten; no approval by file."""
    import pathlib

    import positions.tasks
    import trading.tasks
    from trading import gate

    assert all((positions.tasks, trading.tasks))
    file, gate.APPROVAL_FILE = gate.APPROVAL_FILE, pathlib.Path("/nonexistent/APPROVE_EXECUTION")
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        gate.APPROVAL_FILE = file


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--world", type=int, help="only this world of the seed")
    parser.add_argument("--like", choices=semantics.VENUES, help="both venues promise what this one does")
    given = parser.parse_args()
    with arena():
        one = Campaign(given.seed, like=given.like or "")
        if given.world is not None:
            one.run(1, first=given.world)
        else:
            one.run(given.faults, tell=partial(print, file=sys.stderr, flush=True))
        print(one.report(), flush=True)
    return 1 if one.violations else 0


if __name__ == "__main__":
    sys.exit(main())
