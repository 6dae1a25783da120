"""A stolen executor key at work: random and greedy sequences of calls, and the most that each kind could take.

    python -m tests.chain.hostile --sequences 20000 --seed 1

Each sequence runs in one `eth_simulateV1`: several blocks with their own times, real contracts, nothing kept.
Around every call of the executor the Safe is valued at the price feeds by `Meter.vy`, which shares no code
with the module. What a call took (profit shares aside, which are checked against realised profit) is added up
over every rolling 24 hours and over the whole sequence, and must stay within the two budgets of the policies that
were in force by then: a policy that loosens counts from the end of its delay on.
"""

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.anvil import Rpc, start_anvil
from maxxit.ops.devchain.world import TRADER_BALANCE, TokenInfo, World, build_world, sqrt_price, swap_data
from tests.chain.lab import DAY, QUARTER, USDC, Lab, trade
from trading.venues.safe.contract import module as m

MICRO = 10**6  # the meter's units in one base unit of USDC
FAR = 2**47
GAS = hex(4_000_000)
SYMBOLS = ("WETH", "WBTC", "EVIL")
BATCH = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """The world with a hostile token in it, and the calldata that every sequence needs."""

    world: World
    tokens: dict[str, TokenInfo]
    meter: str
    measure: str
    start: int

    def rules(self) -> list[m.TokenRule]:
        return [m.TokenRule(t.address, t.feed, t.policy_fee, 3_600) for t in self.tokens.values()]


def set_stage(lab: Lab) -> Stage:
    """Adds hostile token and meter to a fresh world, gives the Safe more money than it can lose."""
    from maxxit.ops.devchain.world import Builder

    evil = lab.hostile_token()
    world = lab.world
    tokens = {**{token.symbol: token for token in world.tokens}, "EVIL": evil}
    meter = Builder(world.rpc_url).local("Meter", [], [])
    world.mint("USDC", lab.safe, 90_000 * USDC)
    signature = "worth(address,address,address[],address[])"
    addresses, feeds = [t.address for t in tokens.values()], [t.feed for t in tokens.values()]
    measure = "0x" + encode_call(signature, lab.safe, world.usdc, addresses, feeds).hex()
    return Stage(world, tokens, meter, measure, world.now())


@dataclass(slots=True)
class Script:
    """One sequence under construction: calls in blocks, each block with its time."""

    stage: Stage
    rng: random.Random
    policy: m.Policy
    kind: str = ""
    now: int = 0
    blocks: list[tuple[int, list[dict[str, str]]]] = field(default_factory=list)
    strikes: list[tuple[int, int]] = field(default_factory=list)  # (block, call) of each executor call
    prices: dict[str, Decimal] = field(default_factory=dict)
    opened: list[tuple[str, str, int]] = field(default_factory=list)  # name, symbol, usdc
    puppet: bool = False  # the executor is the hostile token
    pending: tuple[int, m.Policy] | None = None  # when a looser policy is in force, and which
    allowed: list[tuple[int, int, int]] = field(default_factory=list)  # from a time on: USDC a day, in total

    def __post_init__(self) -> None:
        self.now = self.stage.start + 10
        self.blocks.append((self.now, []))
        self.prices = {"WETH": Decimal(2_500), "WBTC": Decimal(60_000), "EVIL": Decimal(100)}
        self.call(
            self.stage.world.safe, self.stage.world.module, m.set_policy_data(self.policy, self.stage.rules())
        )
        self._allow(self.now, self.policy)

    def _allow(self, at: int, policy: m.Policy) -> None:
        """A policy is in force from `at` on. What earlier ones reserved may still be lost."""
        self.policy = policy
        _, day, total = self.allowed[-1] if self.allowed else (0, 0, 0)
        self.allowed.append((at, max(day, policy.loss_budget), total + policy.total_loss_budget))

    def _settle(self) -> None:
        if self.pending and self.pending[0] <= self.now:
            self._allow(*self.pending)
            self.pending = None

    def sign(self, policy: m.Policy) -> None:
        """The Safe sets another policy: what is stricter holds at once, all of it after the delay in force."""
        self._settle()
        self.call(
            self.stage.world.safe, self.stage.world.module, m.set_policy_data(policy, self.stage.rules())
        )
        self.pending = (self.now + self.policy.loosen_delay, policy)
        self.policy = self.policy.stricter(policy)
        self._settle()

    def cancel(self, sender: str) -> None:
        """Guardian or Safe cancel what is pending."""
        self._settle()
        self.pending = None
        self.call(sender, self.stage.world.module, m.call_data("cancel_loosening", self.stage.world.safe))

    def call(self, sender: str, to: str, data: bytes) -> None:
        self.blocks[-1][1].append({"from": sender, "to": to, "data": "0x" + data.hex(), "gas": GAS})

    def wait(self, seconds: int, *, fresh: bool = True) -> None:
        """A later block; feeds keep their answers and are refreshed unless `fresh` is False."""
        self.now += seconds
        self.blocks.append((self.now, []))
        self._settle()
        if fresh:
            for token in self.stage.tokens.values():
                self.call(self.stage.world.accounts["rogue"], token.feed, encode_call("refresh()"))

    def strike(self, data: bytes) -> None:
        """A call of the executor, measured before and after."""
        world = self.stage.world
        self._measure()
        self.strikes.append((len(self.blocks) - 1, len(self.blocks[-1][1])))
        if self.puppet:
            told = encode_call("act(address,bytes)", world.module, data)
            self.call(world.accounts["rogue"], self.stage.tokens["EVIL"].address, told)
        else:
            self.call(self.policy.executor, world.module, data)
        self._measure()

    def _measure(self) -> None:
        call = {"from": self.stage.meter, "to": self.stage.meter, "data": self.stage.measure, "gas": GAS}
        self.blocks[-1][1].append(call)

    def open(self, symbol: str, usdc: int, min_out: int = 0) -> str:
        name = f"{len(self.opened)}"
        self.opened.append((name, symbol, usdc))
        token = self.stage.tokens[symbol].address
        self.strike(m.open_data(self.stage.world.safe, trade(name), token, usdc, min_out, FAR))
        return name

    def close(self, name: str, part: float = 1.0) -> None:
        """Close about `part` of a position (the attacker knows roughly what it holds)."""
        quantity = m.ALL
        if part < 1:
            _, symbol, usdc = self.opened[int(name)]
            unit = 10 ** self.stage.tokens[symbol].decimals
            quantity = max(1, int(Decimal(usdc) / USDC / self.prices[symbol] * unit * Decimal(part)))
        self.strike(m.close_data(self.stage.world.safe, trade(name), 0, FAR, quantity))

    def skew(self, symbol: str, factor: Decimal) -> None:
        """The attacker's own swap puts the policy's pool at `factor` times the feed's price.

        Which way it must go is not known beforehand, so both ways are sent and the wrong one reverts.
        """
        world, token = self.stage.world, self.stage.tokens[symbol]
        target = sqrt_price(world.usdc, token, self.prices[symbol] * factor)
        trader = world.accounts["trader"]
        for sell, buy in ((world.usdc, token.address), (token.address, world.usdc)):
            data = swap_data(sell, buy, token.policy_fee, trader, TRADER_BALANCE // 10**3, target, FAR)
            self.call(trader, world.router, data)

    def feed(self, symbol: str, factor: Decimal, age: int = 0) -> None:
        """The oracle moves to `factor` times what it was and says that it is `age` seconds old."""
        self.prices[symbol] = (self.prices[symbol] * factor).quantize(Decimal("1e-8"))
        answer, then = int(self.prices[symbol].scaleb(8)), self.now - age
        data = encode_call("set_round(int256,uint256,uint256)", answer, then, then)
        self.call(self.stage.world.accounts["rogue"], self.stage.tokens[symbol].feed, data)

    def evil(self, signature: str, *args: Any) -> None:
        token = self.stage.tokens["EVIL"]
        self.call(self.stage.world.accounts["rogue"], token.address, encode_call(signature, *args))

    # -- what attackers know

    def edge(self, symbol: str, *, buy: bool, policy: m.Policy | None = None) -> Decimal:
        """The pool price, over the feed's, at which a trade just passes the floor: the greediest skew."""
        pool_fee = Decimal(self.stage.tokens[symbol].policy_fee) / 10**6
        room = 1 - Decimal((policy or self.policy).slippage_bps) / 10_000
        factor = (1 - pool_fee) / room
        return factor * Decimal("0.9998") if buy else 1 / (factor * Decimal("0.9998"))

    def size(self) -> int:
        return self.rng.choice([self.policy.max_trade, self.policy.min_trade, self.rng.randint(
            self.policy.min_trade, self.policy.max_trade)])  # fmt: skip

    def pause(self) -> None:
        self.wait(self.rng.choice([1, 12, 60, 900, QUARTER - 1, QUARTER, DAY]))

    def any_symbol(self) -> str:
        return self.rng.choice(SYMBOLS)


# ------------------------------------------------------------------ kinds of attack


def own_pool(script: Script) -> None:
    """Greedy sandwich: the pool at the very edge of the floor before each open and each close."""
    symbol = script.rng.choice(("WETH", "WBTC"))
    for _ in range(script.rng.randint(2, 4)):
        script.skew(symbol, script.edge(symbol, buy=True))
        name = script.open(symbol, script.size())
        script.skew(symbol, script.edge(symbol, buy=False))
        if script.rng.random() < 0.8:
            script.close(name, script.rng.choice((1.0, 1.0, 0.5)))
        if script.rng.random() < 0.5:
            script.pause()


def squeeze(script: Script) -> None:
    """Greedy to the last cent: ever smaller trades at the edge, then every close at the edge."""
    symbol, size = script.rng.choice(("WETH", "WBTC")), script.policy.max_trade
    names = []
    for _ in range(script.rng.randint(4, 8)):
        script.skew(symbol, script.edge(symbol, buy=True))
        names.append(script.open(symbol, max(size, script.policy.min_trade)))
        size = size * script.rng.choice((1, 2, 2, 3)) // 3
        script.wait(12)
    for name in names:
        script.skew(symbol, script.edge(symbol, buy=False))
        script.close(name)


def bull_run(script: Script) -> None:
    """Fill the budget, let the price rise far above what was reserved at open, then close at the edge."""
    symbol = script.rng.choice(("WETH", "WBTC"))
    names = []
    for part in (1, 2, 4, 8):
        script.skew(symbol, script.edge(symbol, buy=True))
        names.append(script.open(symbol, max(script.policy.max_trade // part, script.policy.min_trade)))
        script.wait(12)
    script.feed(symbol, Decimal(script.rng.uniform(1.2, 4)))
    for name in names:
        script.skew(symbol, script.edge(symbol, buy=False))
        script.close(name)


def patience(script: Script) -> None:
    """A full day's erosion, day after day, against the total budget."""
    symbol = script.rng.choice(("WETH", "WBTC"))
    for _ in range(script.rng.randint(3, 4)):
        for part in (1, script.rng.choice((1, 2, 4))):
            script.skew(symbol, script.edge(symbol, buy=True))
            name = script.open(symbol, max(script.policy.max_trade // part, script.policy.min_trade))
            script.skew(symbol, script.edge(symbol, buy=False))
            script.close(name)
            script.wait(12)
        script.wait(DAY + QUARTER)


def min_out_zero(script: Script) -> None:
    """Asks for nothing in skewed pools, past the edge as often as not."""
    for _ in range(script.rng.randint(2, 4)):
        symbol = script.any_symbol()
        script.skew(symbol, Decimal(script.rng.uniform(0.95, 1.05)))
        name = script.open(symbol, script.size())
        script.skew(symbol, Decimal(script.rng.uniform(0.95, 1.05)))
        script.close(name)


def fee_spam(script: Script) -> None:
    """Many of the smallest trades: each costs the Safe a fee."""
    for _ in range(script.rng.randint(5, 8)):
        name = script.open(script.rng.choice(("WETH", "WBTC")), script.policy.min_trade)
        if script.rng.random() < 0.3:
            script.close(name)
        if script.policy.cooldown:
            script.wait(script.policy.cooldown)


def late_inclusion(script: Script) -> None:
    """Signed long ago with a far deadline and an old price; the market has moved meanwhile."""
    for _ in range(script.rng.randint(2, 3)):
        symbol = script.any_symbol()
        factor = Decimal(script.rng.uniform(0.85, 1.15))
        script.wait(script.rng.randint(1, 3_000), fresh=script.rng.random() < 0.5)
        if script.rng.random() < 0.5:
            script.skew(symbol, factor)
        else:
            script.feed(symbol, factor)
        name = script.open(symbol, script.size(), script.rng.choice((0, 1)))
        script.wait(script.rng.randint(1, QUARTER))
        script.feed(symbol, 1 / factor)
        script.close(name)


def reentrant_token(script: Script) -> None:
    """The hostile token is itself the executor and calls back in the middle of its transfers."""
    late = FAR
    safe, module = script.stage.world.safe, script.stage.world.module
    weth = script.stage.tokens["WETH"].address
    for number in range(script.rng.randint(2, 4)):
        inner = script.rng.choice((
            m.open_data(safe, trade(f"in{number}"), weth, script.size(), 0, late),
            m.open_data(safe, trade(str(len(script.opened))), weth, script.size(), 0, late),
            m.close_data(safe, trade(str(max(0, number - 1))), 0, late),
            m.close_data(safe, trade(str(len(script.opened))), 0, late),
        ))  # fmt: skip
        script.evil("arm(address,bytes,uint256)", module, inner, script.rng.randint(1, 3))
        script.skew("WETH", script.edge("WETH", buy=script.rng.random() < 0.5))
        name = script.open("EVIL", script.size())
        script.evil("arm(address,bytes,uint256)", module, inner, script.rng.randint(0, 2))
        script.close(name, script.rng.choice((1.0, 0.5)))


def fee_on_transfer(script: Script) -> None:
    """The token keeps back a part that changes from trade to trade."""
    for _ in range(script.rng.randint(2, 4)):
        script.evil("take_fee(uint256)", script.rng.choice((0, 10, 60, 99, 100, 300, 2_000)))
        name = script.open("EVIL", script.size())
        script.evil("take_fee(uint256)", script.rng.choice((0, 10, 100)))
        script.close(name, script.rng.choice((1.0, 0.5)))


def stale_oracle(script: Script) -> None:
    """Feeds that are old, zero, negative or from the future, and a sequencer that goes down."""
    world = script.stage.world
    for _ in range(script.rng.randint(2, 3)):
        symbol = script.any_symbol()
        script.feed(symbol, Decimal(1), script.rng.choice((0, 3_599, 3_601, 90_000, -500)))
        if script.rng.random() < 0.3:
            down = encode_call("set_answer(int256)", script.rng.choice((0, 1)))
            script.call(world.accounts["rogue"], world.sequencer_feed, down)
        script.skew(symbol, Decimal(script.rng.uniform(0.9, 1.1)))
        name = script.open(symbol, script.size())
        if script.rng.random() < 0.3:
            bad = encode_call(
                "set_round(int256,uint256,uint256)", script.rng.choice((0, -1)), script.now, script.now
            )
            script.call(world.accounts["rogue"], script.stage.tokens[symbol].feed, bad)
        script.skew(symbol, Decimal(script.rng.uniform(0.9, 1.1)))
        script.close(name)
        script.feed(symbol, Decimal(1))


def dust_closes(script: Script) -> None:
    """One position closed in many small parts, each at the edge."""
    symbol = script.rng.choice(("WETH", "WBTC"))
    script.skew(symbol, script.edge(symbol, buy=True))
    name = script.open(symbol, script.policy.max_trade)
    for _ in range(script.rng.randint(4, 7)):
        script.skew(symbol, script.edge(symbol, buy=False))
        script.close(name, script.rng.choice((0.0001, 0.01, 0.1, 0.3)))


def harvest(script: Script) -> None:
    """Market moves; winners are closed and losers left open, for the sake of the profit share."""
    names = [(script.open(symbol, script.size()), symbol) for symbol in ("WETH", "WBTC")]
    for _ in range(script.rng.randint(2, 4)):
        symbol = script.rng.choice(("WETH", "WBTC"))
        factor = Decimal(script.rng.uniform(0.8, 1.3))
        script.wait(script.rng.randint(1, QUARTER))
        script.feed(symbol, factor)
        script.skew(symbol, script.edge(symbol, buy=False))
        winners = [name for name, held in names if held == symbol]
        script.close(script.rng.choice(winners), script.rng.choice((1.0, 0.5)))
        names.append((script.open(symbol, script.size()), symbol))


def boundary(script: Script) -> None:
    """Bursts on both sides of the module's quarter-day and day boundaries."""
    symbol = script.rng.choice(("WETH", "WBTC"))
    step = script.rng.choice((QUARTER, DAY))
    script.wait(step - script.now % step + step - 30)
    for number in range(script.rng.randint(4, 7)):
        script.skew(symbol, script.edge(symbol, buy=True))
        name = script.open(symbol, script.size())
        if number % 2:
            script.skew(symbol, script.edge(symbol, buy=False))
            script.close(name)
        script.wait(script.rng.choice((1, 31, QUARTER - 31, QUARTER, DAY - 60)))


def hurried_owner(script: Script) -> None:
    """The owner signs looser, stricter and equal policies; the executor strikes before and after they are in force."""
    symbol, keys = script.rng.choice(("WETH", "WBTC")), (script.policy.guardian, script.stage.world.safe)
    for _ in range(script.rng.randint(2, 3)):
        before, factor = script.policy, script.rng.choice((1, 1, 4, 10))
        wanted = replace(
            before, loss_budget=before.loss_budget * factor, total_loss_budget=before.total_loss_budget * factor,
            max_trade=script.rng.choice((before.max_trade, 5_000 * USDC)),
            slippage_bps=script.rng.choice((30, 100, 500)),
            loosen_delay=script.rng.choice((before.loosen_delay, 0, DAY)),
        )  # fmt: skip
        script.sign(wanted)
        for policy in (script.policy, wanted):
            _drain(script, symbol, policy)
        if script.rng.random() < 0.2:
            script.cancel(script.rng.choice(keys))
        script.wait(max(1, before.loosen_delay + script.rng.choice((-12, 1, 12))))
        _drain(script, symbol, script.policy)


def _drain(script: Script, symbol: str, policy: m.Policy) -> None:
    """Round trips at the edge of `policy`, ever smaller, so that the last cents of a budget go too."""
    size = min(policy.max_trade, policy.loss_budget * 5_000 // policy.slippage_bps)
    for part in (1, 2, 6):
        script.skew(symbol, script.edge(symbol, buy=True, policy=policy))
        name = script.open(symbol, max(size // part, policy.min_trade))
        script.skew(symbol, script.edge(symbol, buy=False, policy=policy))
        script.close(name)
        script.wait(12)


def anything(script: Script) -> None:
    """Random calls in random order."""
    for _ in range(script.rng.randint(4, 8)):
        symbol, choice = script.any_symbol(), script.rng.random()
        if choice < 0.4 or not script.opened:
            script.skew(symbol, script.edge(symbol, buy=True) * Decimal(script.rng.uniform(0.98, 1.002)))
            script.open(symbol, script.size())
        elif choice < 0.7:
            name, held, _ = script.rng.choice(script.opened)
            script.skew(held, script.edge(held, buy=False) * Decimal(script.rng.uniform(0.998, 1.02)))
            script.close(name, script.rng.choice((1.0, 0.5, 0.1)))
        elif choice < 0.85:
            script.feed(symbol, Decimal(script.rng.uniform(0.9, 1.1)))
        else:
            script.pause()


ATTACKS: tuple[Callable[[Script], None], ...] = (
    own_pool, squeeze, bull_run, patience, min_out_zero, fee_spam, late_inclusion, reentrant_token,
    fee_on_transfer, stale_oracle, dust_closes, harvest, boundary, hurried_owner, anything,
)  # fmt: skip


def written(stage: Stage, attack: Callable[[Script], None], rng: random.Random) -> Script:
    """A sequence of `attack` under a random policy."""
    evil_executor = attack is reentrant_token
    accounts = stage.world.accounts
    budget = rng.choice((5, 20, 50, 200)) * USDC
    slippage = rng.choice((30, 100, 100, 300, 500))
    policy = stage.world.policy(
        executor=stage.tokens["EVIL"].address if evil_executor else accounts["executor"],
        max_trade=rng.choice((100, 1_000, 5_000)) * USDC, daily_notional=50_000 * USDC, trades_per_day=100,
        cooldown=rng.choice((0, 0, 0, 12)), slippage_bps=slippage, loss_budget=budget,
        total_loss_budget=budget * rng.choice((1, 2, 10)),
        loosen_delay=rng.choice((0, 3_600, DAY)) if attack is hurried_owner else 0,
    )  # fmt: skip
    script = Script(stage, rng, policy, attack.__name__, puppet=evil_executor)
    attack(script)
    return script


# ------------------------------------------------------------------ running and judging


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sequence took from the Safe. USDC in meter units (10**-12 USD)."""

    kind: str
    calls: int
    succeeded: int
    worst_day: int
    day_budget: int
    total: int
    total_budget: int
    shares: int
    best_gain: int

    @property
    def within(self) -> bool:
        """Both budgets hold, and shares are at most a fifth of the best that the Safe has ever gained."""
        fits = self.worst_day <= self.day_budget and self.total <= self.total_budget
        return fits and self.shares * 5 <= max(0, self.best_gain)


def request(script: Script) -> list[Any]:
    """The parameters of eth_simulateV1 for a sequence."""
    return [
        {
            "blockStateCalls": [
                {"blockOverrides": {"time": hex(at), "gasLimit": hex(2**40)}, "calls": calls}
                for at, calls in script.blocks
            ],
            "validation": False,
        },
        "latest",
    ]


def judged(script: Script, answer: list[dict[str, Any]]) -> Outcome:
    """Adds up what each executor call took, by the meter before and after it."""
    losses: list[tuple[int, int]] = []
    succeeded = shares = best = 0
    start: int | None = None
    for block, position in script.strikes:
        calls = answer[block]["calls"]
        before, after = (int(calls[position + step]["returnData"], 16) for step in (-1, 1))
        start = before if start is None else start
        share = _share_paid(script, calls[position])
        succeeded += calls[position]["status"] == "0x1"
        shares += share
        losses.append((script.blocks[block][0], before - after - share * MICRO))
        # What the Safe has gained, shares paid included and what is open at the feeds' prices.
        best = max(best, after + shares * MICRO - start)
    day, total = _nearest(script, [(at, max(0, loss)) for at, loss in losses])
    return Outcome(script.kind, len(losses), succeeded, *day, *total, shares * MICRO, best)


def _nearest(script: Script, taken: list[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a day and all calls so far took, with the budget of that moment, where it came nearest to it."""
    days, totals = [], []
    for number, (at, _) in enumerate(taken, 1):
        _, day, total = next(step for step in reversed(script.allowed) if step[0] <= at)
        days.append((sum(loss for then, loss in taken[:number] if then > at - DAY), day * MICRO))
        totals.append((sum(loss for _, loss in taken[:number]), total * MICRO))
    return max(days, key=_part), max(totals, key=_part)


def _part(row: tuple[int, int]) -> Decimal:
    taken, budget = row
    return Decimal(taken) / budget


def _share_paid(script: Script, strike: dict[str, Any]) -> int:
    """Profit share that a call of the executor paid out, in USDC base units."""
    if strike["status"] != "0x1":
        return 0
    logs = m.decode_logs(strike["logs"], script.stage.world.module)
    return sum(log.args["share"] for log in logs if log.name == "PositionClosed")


def run(lab: Lab, stage: Stage, count: int, seed: int, attacks: Iterable[Any] = ATTACKS) -> Iterator[Outcome]:
    """`count` sequences, the kinds taking turns; a sequence is fixed by seed and number."""
    kinds = tuple(attacks)
    rpc = Rpc(lab.world.rpc_url)
    for first in range(0, count, BATCH):
        scripts = [
            written(stage, kinds[number % len(kinds)], random.Random(f"{seed}/{number}"))
            for number in range(first, min(first + BATCH, count))
        ]
        answers = rpc.batch([("eth_simulateV1", request(script)) for script in scripts])
        yield from (judged(script, answer) for script, answer in zip(scripts, answers, strict=True))


@dataclass(slots=True)
class Tally:
    """The row of one kind of attack."""

    sequences: int = 0
    calls: int = 0
    succeeded: int = 0
    worst: int = 0
    worst_budget: int = 0
    nearest: Decimal = Decimal(0)
    broken: int = 0

    def add(self, outcome: Outcome) -> None:
        self.sequences += 1
        self.calls += outcome.calls
        self.succeeded += outcome.succeeded
        if outcome.worst_day > self.worst:
            self.worst, self.worst_budget = outcome.worst_day, outcome.day_budget
        day = Decimal(outcome.worst_day) / outcome.day_budget
        self.nearest = max(self.nearest, day, Decimal(outcome.total) / outcome.total_budget)
        self.broken += not outcome.within


def tallied(outcomes: Iterable[Outcome]) -> dict[str, Tally]:
    rows: defaultdict[str, Tally] = defaultdict(Tally)
    for outcome in outcomes:
        rows[outcome.kind].add(outcome)
    return dict(rows)


def table(rows: dict[str, Tally]) -> str:
    """Attack kind, sequences, calls (and how many went through), largest loss with its budget, nearest."""
    lines = [
        "attack            sequences   calls  through   largest loss / budget (USDC a day)   nearest  broken"
    ]
    for kind, row in rows.items():
        loss, budget = Decimal(row.worst) / (USDC * MICRO), row.worst_budget // (USDC * MICRO)
        lines.append(
            f"{kind:<18}{row.sequences:>9}{row.calls:>8}{row.succeeded:>9}   {loss:>12.6f} / {budget:<20}"
            f"{row.nearest * 100:>8.2f} %{row.broken:>8}"
        )
    total = sum(row.sequences for row in rows.values())
    broken = sum(row.broken for row in rows.values())
    nearest = max(row.nearest for row in rows.values())
    lines.append(f"{total} sequences, budget broken in {broken}, nearest {nearest * 100:.2f} % of a budget")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Hostile executor against the loss budget.")
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    with start_anvil() as node:
        lab = Lab(build_world(node.url))
        stage = set_stage(lab)
        started = time.monotonic()
        rows = tallied(run(lab, stage, options.sequences, options.seed))
        took = time.monotonic() - started
    print(table(rows))
    print(f"seed {options.seed}, {took:.0f} s, {options.sequences / took:.0f} sequences/s")
    return int(any(row.broken for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
