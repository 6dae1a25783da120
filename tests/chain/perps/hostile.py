"""A stolen executor key that also holds GMX's keeper roles: random and greedy sequences, and the most that each took.

    python -m tests.chain.perps.hostile --sequences 20000 --seed 1

Each sequence runs in one `eth_simulateV1`: several blocks with their own times, real contracts, nothing kept. The
thief (`PerpThief.vy`) opens, closes and cancels as the executor, and executes, liquidates and comes late as the
keeper, at any price. After each step the Safe's own USDC is read: what is in GMX counts nothing. The largest fall of
it in any 24 hours and in the whole sequence, profit shares and the owner's own deposits aside, must stay within the
budgets of the policies that were in force by then. Shares must stay within a fifth of the most that the Safe has ever
gained, and the Safe's ETH must never fall.
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

from eth_abi.abi import encode

from maxxit.evm.codec import ZERO_ADDRESS, encode_call
from maxxit.ops.devchain.anvil import Rpc, start_anvil
from maxxit.ops.devchain.gmx import USD, data_key
from maxxit.ops.devchain.world import Builder, World, build_world, transact
from tests.chain.gmx import router
from tests.chain.perps.callbacks import CALLBACKS, callback, event_data
from tests.chain.perps.lab import DAY, QUARTER, USDC, PerpLab, trade
from trading.venues.gmx import calls
from trading.venues.gmx.contract import module as p

FAR = 2**47
GAS = hex(120_000_000)
BATCH = 10
SYMBOLS = ("WETH", "WBTC")
START_PRICES = {"WETH": Decimal(2_500), "WBTC": Decimal(60_000)}
DECIMALS = {"WETH": 18, "WBTC": 8}
CASH = ("uint256", "uint256", "uint256")


@dataclass(frozen=True, slots=True)
class Stage:
    """The world with a thief in it, and what every sequence needs."""

    world: World
    module: str
    thief: str
    tokens: tuple[str, ...]
    measure: str
    start: int
    nonce: int
    """Of the latest order at GMX: the keys of the orders that follow are known beforehand."""
    rules: tuple[p.MarketRule, ...]
    demo: p.Policy

    def order_key(self, number: int) -> bytes:
        """The key of the n-th order after the start, counted from 1."""
        from eth_utils.crypto import keccak

        return keccak(encode(["address", "uint256"], [self.world.gmx.data_store, self.nonce + number]))


def set_stage(lab: PerpLab) -> Stage:
    """Adds the thief to a fresh world and gives the Safe more money than it can lose."""
    world, gmx = lab.world, lab.gmx
    thief = Builder(world.rpc_url).local(
        "PerpThief", ["address"] * 3, [gmx.data_store, gmx.order_handler, gmx.liquidation_handler]
    )
    roles = [
        (thief, data_key(role)) for role in ("ORDER_KEEPER", "FROZEN_ORDER_KEEPER", "LIQUIDATION_KEEPER")
    ]
    transact(
        world.rpc,
        world.accounts["deployer"],
        gmx.role_store,
        encode_call("grantRoles((address,bytes32)[])", roles),
    )
    world.mint("USDC", lab.safe, 90_000 * USDC)
    approve = encode_call("approve(address,uint256)", gmx.router, 2**255)
    transact(world.rpc, lab.safe, world.usdc, approve)  # for the owner's own orders
    measure = encode_call("cash(address,address,address)", lab.safe, world.usdc, world.address_of("WETH"))
    tokens = (*(world.address_of(symbol) for symbol in SYMBOLS), world.usdc)
    nonce = lab.number("getUint(bytes32)", data_key("NONCE"), to=gmx.data_store)
    return Stage(
        world, lab.module, thief, tokens, "0x" + measure.hex(), world.now(), nonce, tuple(lab.rules()),
        lab.demo(executor=thief),
    )  # fmt: skip


@dataclass(slots=True)
class Script:
    """One sequence under construction: calls in blocks, each block with its time."""

    stage: Stage
    rng: random.Random
    policy: p.Policy
    kind: str = ""
    now: int = 0
    blocks: list[tuple[int, list[dict[str, str]]]] = field(default_factory=list)
    measures: list[tuple[int, int]] = field(default_factory=list)
    """(block, call) of each reading of the Safe's cash."""
    owners: set[int] = field(default_factory=set)
    """Numbers of the readings before which the owner, not the thief, has acted."""
    feeds: dict[str, Decimal] = field(default_factory=lambda: dict(START_PRICES))
    marks: dict[str, Decimal] = field(default_factory=lambda: dict(START_PRICES))
    """The keeper's prices."""
    opened: list[tuple[str, str, bool]] = field(default_factory=list)
    """Trade, symbol, whether it is long."""
    pending: tuple[int, p.Policy] | None = None
    allowed: list[tuple[int, int, int]] = field(default_factory=list)
    """From a time on: USDC a day, in total."""

    def __post_init__(self) -> None:
        self.now = self.stage.start + 10
        self.blocks.append((self.now, []))
        self.call(self.stage.world.safe, self.stage.module, p.set_policy_data(self.policy, self.stage.rules))
        self._allow(self.now, self.policy)
        self.read()

    def _allow(self, at: int, policy: p.Policy) -> None:
        """A policy is in force from `at` on. What earlier ones reserved may still be lost."""
        self.policy = policy
        _, day, total = self.allowed[-1] if self.allowed else (0, 0, 0)
        self.allowed.append((at, max(day, policy.loss_budget), total + policy.total_loss_budget))

    def _mature(self) -> None:
        if self.pending and self.pending[0] <= self.now:
            self._allow(*self.pending)
            self.pending = None

    # -- calls

    def call(self, sender: str, to: str, data: bytes, value: int = 0) -> None:
        call = {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": GAS, "value": hex(value)}
        self.blocks[-1][1].append(call)

    def read(self) -> None:
        """Read the Safe's cash."""
        self.measures.append((len(self.blocks) - 1, len(self.blocks[-1][1])))
        self.blocks[-1][1].append({"to": self.stage.thief, "data": self.stage.measure, "gas": GAS})

    def thief(self, signature: str, *args: Any, value: int = 0) -> None:
        self.call(self.stage.world.accounts["rogue"], self.stage.thief, encode_call(signature, *args), value)
        self.read()

    def strike(self, data: bytes, value: int = 0) -> None:
        """A call of the module with the stolen key."""
        self.thief("act(address,bytes)", self.stage.module, data, value=value)

    def anyone(self, data: bytes, sender: str = "trader") -> None:
        self.call(self.stage.world.accounts[sender], self.stage.module, data)
        self.read()

    def owner(self, to: str, data: bytes, value: int = 0) -> None:
        """The Safe acts: its own money is no loss by the thief."""
        self.read()
        self.call(self.stage.world.safe, to, data, value)
        self.owners.add(len(self.measures))
        self.read()

    def wait(self, seconds: int, *, fresh: bool = True) -> None:
        """A later block; feeds keep their answers and are refreshed unless `fresh` is False."""
        self.now += seconds
        self.blocks.append((self.now, []))
        self._mature()
        if fresh:
            for rule in self.stage.rules:
                self.call(self.stage.world.accounts["rogue"], rule.feed, encode_call("refresh()"))

    # -- the thief as executor

    def units(self, price: Decimal, symbol: str) -> int:
        return int(price.scaleb(30 - DECIMALS[symbol]))

    def open(
        self, symbol: str, collateral: int = 0, leverage: Decimal = Decimal(0), *, long: bool = True, stop: str = "",
        target: str = "", name: str = "",
    ) -> str:  # fmt: skip
        """Order a position; stop and target as factors of the feed's price. The largest where nothing is said."""
        name = name or f"{len(self.opened)}"
        self.opened.append((name, symbol, long))
        collateral = collateral or self.policy.max_collateral
        most = min(collateral * self.policy.max_leverage_bps // 10_000, self.policy.max_notional)
        notional = min(int(collateral * leverage), most) if leverage else most
        feed = self.feeds[symbol]
        slip = Decimal(self.policy.slippage_bps) / 10_000 * (1 if long else -1)
        opening = p.Opening(
            trade(name), self.stage.world.gmx.markets[symbol], long, collateral, notional * USD // USDC,
            self.units(feed * (1 + slip), symbol) + (0 if long else 1),
            self.units(feed * Decimal(stop), symbol) if stop else 0,
            self.units(feed * Decimal(target), symbol) if target else 0, 1,
        )  # fmt: skip
        self.strike(p.open_data(self.stage.world.safe, opening, FAR), opening.value)
        return name

    def close(self, name: str, part: Decimal = Decimal(1)) -> None:
        """Order a close at the edge of the policy's slippage."""
        _, symbol, long = next(row for row in self.opened if row[0] == name)
        slip = Decimal(self.policy.slippage_bps) / 10_000 * (-1 if long else 1)
        price = self.units(self.feeds[symbol] * (1 + slip), symbol) + (1 if long else 0)
        size = p.ALL
        if part < 1:
            notional = self.policy.max_collateral * self.policy.max_leverage_bps // 10_000
            size = max(1, int(Decimal(min(notional, self.policy.max_notional)) * part)) * USD // USDC
        data = p.close_data(
            self.stage.world.safe, trade(name), acceptable_price=price, execution_fee=1, deadline=FAR,
            size_usd=size,
        )  # fmt: skip
        self.strike(data, 1)

    def cancel(self, place: int, by_thief: bool = True) -> None:
        if by_thief:
            self.thief("cancel(address,address,uint256)", self.stage.module, self.stage.world.safe, place)
        else:
            key = self.stage.order_key(place + 1)
            self.anyone(p.cancel_data(self.stage.world.safe, key))

    def settle(self, name: str) -> None:
        self.anyone(p.settle_data(self.stage.world.safe, trade(name)))

    # -- the thief as keeper

    def _quotes(self) -> list[int]:
        return [*(self.units(self.marks[symbol], symbol) for symbol in SYMBOLS), 10**24]

    def work(self, skip: int = 0) -> None:
        """Execute what is pending, at the keeper's prices; orders whose bit is set in `skip` wait."""
        self.thief(
            "work(address,address[],uint256[],uint256)", self.stage.world.safe, list(self.stage.tokens),
            self._quotes(), skip,
        )  # fmt: skip

    def liquidate(self, symbol: str, *, long: bool = True) -> None:
        self.thief(
            "liquidate(address,address,bool,address[],uint256[])", self.stage.world.safe,
            self.stage.world.gmx.markets[symbol], long, list(self.stage.tokens), self._quotes(),
        )  # fmt: skip

    def move(self, symbol: str, factor: Decimal, *, feed: bool = True) -> None:
        """The keeper's price moves to `factor` times what it was, and the feed with it or not."""
        self.marks[symbol] = (self.marks[symbol] * factor).quantize(Decimal("1e-8"))
        if feed:
            self.feeds[symbol] = self.marks[symbol]
            answer = int(self.feeds[symbol].scaleb(8))
            rule = self.stage.rules[SYMBOLS.index(symbol)]
            data = encode_call("set_answer(int256)", answer)
            self.call(self.stage.world.accounts["rogue"], rule.feed, data)

    def mark(self, symbol: str, factor: Decimal) -> None:
        """The keeper's price is `factor` times the feed's."""
        self.marks[symbol] = (self.feeds[symbol] * factor).quantize(Decimal("1e-8"))

    def worst(self, symbol: str, *, long: bool, opening: bool) -> None:
        """The keeper's price at the edge of what an order accepts, less what price impact takes."""
        slip = Decimal(self.policy.slippage_bps) / 10_000 - Decimal("0.0002")
        self.mark(symbol, 1 + slip if long == opening else 1 - slip)

    def even(self, symbol: str) -> None:
        self.marks[symbol] = self.feeds[symbol]

    # -- the owner

    def sign(self, policy: p.Policy) -> None:
        """The Safe sets another policy: what is stricter holds at once, all of it after the delay in force."""
        self._mature()
        self.call(self.stage.world.safe, self.stage.module, p.set_policy_data(policy, self.stage.rules))
        self.pending = (self.now + self.policy.loosen_delay, policy)
        self.policy = self.policy.stricter(policy)
        self._mature()

    def own_order(self, symbol: str, *, long: bool, size: int, collateral: int) -> None:
        """The owner's own order at GMX, without the module."""
        world = self.stage.world
        increase = collateral > 0
        params = router.OrderParams(
            world.safe, world.safe, ZERO_ADDRESS, world.gmx.markets[symbol], world.usdc, size * USD,
            calls.OrderType.MARKET_INCREASE if increase else calls.OrderType.MARKET_DECREASE, long,
            2**256 - 1 if long == increase else 0, 1,
        )  # fmt: skip
        batch = [router.send_wnt(world.gmx.order_vault, 1), router.create_order(params)]
        if increase:
            batch.insert(0, router.send_tokens(world.usdc, world.gmx.order_vault, collateral))
        self.owner(world.gmx.exchange_router, router.multicall(batch), 1)

    # -- what attackers choose

    def symbol(self) -> str:
        return self.rng.choice(SYMBOLS)

    def chance(self, part: float) -> bool:
        return self.rng.random() < part

    def between(self, low: float, high: float) -> Decimal:
        return Decimal(self.rng.uniform(low, high)).quantize(Decimal("1e-6"))


# ------------------------------------------------------------------ kinds of attack


def total_losses(script: Script) -> None:
    """The largest positions, each liquidated, until nothing may be opened any more."""
    for _ in range(script.rng.randint(3, 6)):
        symbol, long = script.symbol(), script.chance(0.5)
        script.open(symbol, long=long)
        script.work()
        script.move(symbol, Decimal("0.6") if long else Decimal("1.6"), feed=script.chance(0.5))
        script.liquidate(symbol, long=long)
        script.even(symbol)
        script.wait(script.rng.choice((2, 12, 3_600)))


def squeeze(script: Script) -> None:
    """Round trips at the edge of the slippage on both ways, ever smaller, to the last cent of the budget."""
    symbol, long = script.symbol(), script.chance(0.5)
    collateral = script.policy.max_collateral
    for _ in range(script.rng.randint(3, 5)):
        name = script.open(symbol, collateral, long=long)
        script.worst(symbol, long=long, opening=True)
        script.work()
        script.close(name)
        script.worst(symbol, long=long, opening=False)
        script.work()
        collateral = max(script.policy.min_collateral, collateral * 2 // 3)
        script.wait(12)


def fee_spam(script: Script) -> None:
    """The smallest trades, which the keeper cancels or never executes: each costs the Safe a fee."""
    for _ in range(script.rng.randint(4, 7)):
        symbol = script.symbol()
        script.open(symbol, script.policy.min_collateral, Decimal(1))
        script.mark(symbol, Decimal("1.2"))
        if script.chance(0.7):
            script.work()
        else:
            script.wait(302)
            script.cancel(0)
        script.even(symbol)
        script.wait(2)


def gaps(script: Script) -> None:
    """Stops and targets that the price jumps over."""
    for _ in range(script.rng.randint(2, 4)):
        symbol, long = script.symbol(), script.chance(0.5)
        stop, target = ("0.97", "1.05") if long else ("1.03", "0.95")
        script.open(symbol, long=long, stop=stop, target=target if script.chance(0.7) else "")
        script.work()
        script.wait(script.rng.randint(5, 3_000))
        script.move(symbol, script.between(0.8, 1.25))
        script.work()
        if script.chance(0.5):
            script.liquidate(symbol, long=long)
        if script.chance(0.3):
            script.close(script.opened[-1][0])
            script.work()
        script.wait(2)


def funding(script: Script) -> None:
    """Positions that pay or earn funding and borrowing fees for days."""
    symbol, long = script.symbol(), script.chance(0.7)
    name = script.open(symbol, long=long)
    script.work()
    for _ in range(script.rng.randint(1, 3)):
        script.wait(script.rng.choice((QUARTER, DAY, 3 * DAY, 30 * DAY)))
        script.anyone(p.claim_data(script.stage.world.safe, script.stage.world.gmx.markets[symbol]))
        if script.chance(0.4):
            script.liquidate(symbol, long=long)
    script.close(name)
    script.work()
    script.settle(name)
    script.open(symbol, long=not long)
    script.work()


def expired(script: Script) -> None:
    """The keeper never comes, comes late, and orders are cancelled by thief and strangers."""
    for number in range(script.rng.randint(2, 4)):
        symbol = script.symbol()
        name = script.open(symbol, stop="0.9" if script.chance(0.5) else "")
        script.wait(script.rng.choice((1, 150, 299, 301, 900)))
        if script.chance(0.4):
            script.work()
        script.settle(name)
        script.cancel(script.rng.randint(0, 1))
        script.cancel(number, by_thief=False)
        if script.chance(0.5):
            script.close(name)
            script.wait(script.rng.choice((1, 301)))
            script.work(script.rng.randint(0, 3))
            script.cancel(0)
        script.settle(name)
        script.wait(2)


def frozen(script: Script) -> None:
    """The owner gives a stop a price that a gap passes: GMX freezes it; the thief goes on around it."""
    script.open("WETH", stop="0.97", target="1.05")
    script.work()
    stop = script.stage.order_key(2)
    price = script.feeds["WETH"] * Decimal("0.965")
    update = encode_call(
        "updateOrder(bytes32,uint256,uint256,uint256,uint256,uint256,bool)", stop, USD * 500,
        script.units(price, "WETH"), script.units(script.feeds["WETH"] * Decimal("0.97"), "WETH"), 0, 0, True,
    )  # fmt: skip
    script.owner(script.stage.world.gmx.exchange_router, update)
    script.move("WETH", script.between(0.85, 0.96))
    script.work()
    script.open("WBTC")
    script.work()
    script.anyone(p.cancel_data(script.stage.world.safe, stop))
    if script.chance(0.5):
        script.close("0")
        script.work()
    else:
        script.liquidate("WETH")
    script.wait(2)
    script.open("WETH", long=script.chance(0.5))
    script.work()
    script.settle("0")


def forged(script: Script) -> None:
    """Callbacks that nobody at GMX has sent: money that never returned, profits that were never made."""
    name = script.open("WETH", stop="0.9")
    places = [1, 2, 77]
    for round_ in range(script.rng.randint(2, 4)):
        if script.chance(0.6):
            script.work()
        data = forged_call(script, script.rng.choice(places))
        if script.chance(0.5):
            script.strike(data[:1024] if len(data) > 1024 else data)
        sender = script.rng.choice(("trader", "rogue", "executor", "keeper"))
        script.anyone(data, sender)
        script.open("WBTC", name=f"f{round_}")
        script.work()
        script.move("WBTC", Decimal("0.7"))
        script.liquidate("WBTC")
        script.wait(2)
    script.close(name)
    script.work()


def forged_call(script: Script, place: int) -> bytes:
    """A callback as GMX would send it, for the order `place`."""
    world = script.stage.world
    order = event_data(
        addresses={
            "account": world.safe, "market": world.gmx.markets[script.symbol()], "initialCollateralToken": world.usdc,
        },
        bools={"isLong": script.chance(0.5)},
    )  # fmt: skip
    result = event_data(
        addresses={"outputToken": world.usdc, "secondaryOutputToken": world.usdc},
        numbers={
            "outputAmount": script.rng.randint(1, 10**11),
            "secondaryOutputAmount": script.rng.randint(0, 10**9),
        },
    )
    return callback(script.rng.choice(CALLBACKS), script.stage.order_key(place), order, result)


def replays(script: Script) -> None:
    """The same trade id again: at once, after its end, in another market."""
    symbol = script.symbol()
    script.open(symbol, name="again")
    for _ in range(script.rng.randint(3, 5)):
        script.open(script.symbol(), name="again", long=script.chance(0.5))
        if script.chance(0.6):
            script.work()
        script.move(symbol, script.between(0.8, 1.1))
        script.liquidate(symbol)
        if script.chance(0.5):
            script.close("again")
            script.work()
        script.settle("again")
        script.wait(script.rng.choice((2, 302)))


def reentrant(script: Script) -> None:
    """The keeper is paid in the middle of GMX's transaction and strikes from there."""
    safe = script.stage.world.safe
    for number in range(script.rng.randint(2, 3)):
        name = script.open(script.symbol(), stop="0.95", target="1.04")
        symbol = script.opened[-1][1]
        inner = script.rng.choice((
            p.settle_data(safe, trade(name)), p.cancel_data(safe, script.stage.order_key(2 + 3 * number)),
            p.close_data(safe, trade(name), acceptable_price=1, execution_fee=0, deadline=FAR),
            p.open_data(safe, p.Opening(
                trade(f"in{number}"), script.stage.world.gmx.markets[symbol], True, script.policy.max_collateral,
                script.policy.max_collateral * USD // USDC, script.units(script.feeds[symbol], symbol), 0, 0, 0,
            ), FAR),
            p.call_data("stop", safe, p.HALTED),
        ))  # fmt: skip
        script.thief("arm(address,bytes,uint256)", script.stage.module, inner, script.rng.randint(1, 4))
        script.work()
        script.move(symbol, script.between(0.85, 1.1))
        script.work()
        if script.chance(0.5):
            script.liquidate(symbol)
        script.close(name)
        script.work()
        script.wait(2)


def partial(script: Script) -> None:
    """A position closed in parts; what each frees is at once reserved by another trade."""
    symbol, long = script.symbol(), script.chance(0.5)
    other = next(name for name in SYMBOLS if name != symbol)
    name = script.open(symbol, long=long)
    script.work()
    for number in range(script.rng.randint(2, 4)):
        script.move(symbol, script.between(0.97, 1.03))
        script.close(name, script.between(0.05, 0.6))
        script.work()
        script.open(other, script.policy.max_collateral if number % 2 else script.policy.min_collateral)
        script.work()
        script.move(other, Decimal("0.6"), feed=False)
        script.liquidate(other)
        script.even(other)
        script.wait(2)
    script.close(name)
    script.work()


def boundary(script: Script) -> None:
    """Losses on both sides of the module's quarter-day and day boundaries."""
    step = script.rng.choice((QUARTER, DAY))
    script.wait(step - script.now % step + step - 30)
    for _ in range(script.rng.randint(4, 6)):
        symbol = script.symbol()
        script.open(symbol)
        script.work()
        script.mark(symbol, Decimal("0.5"))
        script.liquidate(symbol)
        script.even(symbol)
        script.wait(script.rng.choice((1, 31, QUARTER - 31, QUARTER, DAY - 60, DAY + 60)))


def owners_own(script: Script) -> None:
    """The owner trades in the same markets: before the thief, and into the thief's position."""
    symbol, long = script.symbol(), script.chance(0.5)
    size = script.rng.choice((50, 300, 900))
    early = script.chance(0.5)
    if early:
        script.own_order(symbol, long=long, size=size, collateral=100 * USDC)
        if script.chance(0.7):
            script.work()
    name = script.open(symbol, long=script.chance(0.5))
    script.work()
    if not early:
        script.own_order(symbol, long=script.opened[-1][2], size=size, collateral=100 * USDC)
        script.work()
    other = next(name for name in SYMBOLS if name != symbol)
    script.open(other)
    script.work()
    script.move(other, script.between(0.6, 0.95))
    script.close(name, script.between(0.3, 1))
    script.work()
    script.liquidate(other)
    script.settle(name)
    script.wait(2)
    script.open(symbol)


def hurried_owner(script: Script) -> None:
    """The owner signs looser, stricter and equal policies; the thief strikes before and after they are in force."""
    for _ in range(script.rng.randint(2, 3)):
        before, factor = script.policy, script.rng.choice((1, 1, 3, 6))
        script.sign(replace(
            before, loss_budget=before.loss_budget * factor, total_loss_budget=before.total_loss_budget * factor,
            max_leverage_bps=script.rng.choice((before.max_leverage_bps, 50_000, 1_000_000)),
            loosen_delay=script.rng.choice((before.loosen_delay, 0, DAY)),
        ))  # fmt: skip
        for after in (False, True):
            if after:
                script.wait(max(1, before.loosen_delay + script.rng.choice((-12, 1, 12))))
            symbol = script.symbol()
            script.open(symbol)
            script.work()
            script.mark(symbol, Decimal("0.5"))
            script.liquidate(symbol)
            script.even(symbol)
            script.wait(2)


def harvest(script: Script) -> None:
    """Winners are closed and losers left open, for the sake of the profit share."""
    for symbol in SYMBOLS:
        script.open(symbol, script.policy.max_collateral)
        script.wait(2)
    script.work()
    for _ in range(script.rng.randint(2, 4)):
        symbol = script.symbol()
        script.move(symbol, script.between(0.95, 1.08))
        names = [name for name, held, _ in script.opened if held == symbol]
        script.close(names[-1], script.rng.choice((Decimal(1), Decimal(1), Decimal("0.5"))))
        script.work()
        script.wait(script.rng.randint(2, QUARTER))
        script.open(symbol, script.policy.max_collateral)
        script.work()


def anything(script: Script) -> None:
    """Random calls in random order."""
    for _ in range(script.rng.randint(5, 9)):
        choice, symbol = script.rng.random(), script.symbol()
        if choice < 0.35 or not script.opened:
            script.open(
                symbol, script.rng.choice((0, script.policy.min_collateral)), script.between(1, 100),
                long=script.chance(0.5),
            )  # fmt: skip
        elif choice < 0.6:
            script.work(script.rng.choice((0, 0, 1, 2)))
        elif choice < 0.7:
            script.close(script.rng.choice(script.opened)[0], script.between(0.1, 1.5))
        elif choice < 0.8:
            script.move(symbol, script.between(0.8, 1.2), feed=script.chance(0.6))
        elif choice < 0.87:
            script.liquidate(symbol, long=script.chance(0.5))
        elif choice < 0.92:
            script.settle(script.rng.choice(script.opened)[0])
        else:
            script.wait(script.rng.choice((1, 302, QUARTER, DAY)))


ATTACKS: tuple[Callable[[Script], None], ...] = (
    total_losses, squeeze, fee_spam, gaps, funding, expired, frozen, forged, replays, reentrant, partial, boundary,
    owners_own, hurried_owner, harvest, anything,
)  # fmt: skip


def written(stage: Stage, attack: Callable[[Script], None], rng: random.Random) -> Script:
    """A sequence of `attack` under a random policy."""
    collateral = rng.choice((20, 50, 100, 100)) * USDC
    budget = collateral * rng.choice((2, 3, 5)) // rng.choice((1, 1, 2)) + rng.choice((1, 7)) * USDC
    policy = replace(
        stage.demo, max_collateral=collateral, max_leverage_bps=rng.choice((1, 5, 20, 90)) * 10_000,
        max_notional=rng.choice((500, 10_000)) * USDC, daily_collateral=5_000 * USDC, daily_notional=100_000 * USDC,
        trades_per_day=100, slippage_bps=rng.choice((30, 100, 500)), loss_budget=budget,
        total_loss_budget=budget * rng.choice((1, 2, 10)),
        loosen_delay=rng.choice((0, 3_600, DAY)) if attack is hurried_owner else 0,
    )  # fmt: skip
    script = Script(stage, rng, policy, attack.__name__)
    attack(script)
    return script


# ------------------------------------------------------------------ running and judging


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sequence took from the Safe, USDC base units."""

    kind: str
    steps: int
    succeeded: int
    worst_day: int
    day_budget: int
    total: int
    total_budget: int
    shares: int
    best_gain: int
    ether_lost: int

    @property
    def within(self) -> bool:
        """Both budgets hold, shares are at most a fifth of the most ever gained, and no ETH is gone."""
        fits = self.worst_day <= self.day_budget and self.total <= self.total_budget
        return fits and self.shares * 5 <= max(0, self.best_gain) and self.ether_lost <= 0


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


@dataclass(frozen=True, slots=True)
class Reading:
    """The Safe's cash at one moment, the owner's own moves taken out; `shares` paid up to then."""

    at: int
    cash: int
    shares: int


def judged(script: Script, answer: list[dict[str, Any]]) -> Outcome:
    """Find the largest fall of the Safe's cash, by the readings after each step."""
    readings: list[Reading] = []
    settled = _settlements(script, answer)
    offset = shares = ether_lost = succeeded = 0
    before: tuple[int, ...] | None = None
    for number, (block, place) in enumerate(script.measures):
        raw = bytes.fromhex(answer[block]["calls"][place]["returnData"][2:])
        cash = tuple(int.from_bytes(raw[start : start + 32]) for start in (0, 32, 64))
        shares += settled.get(number, 0)
        if before is not None:
            if number in script.owners:
                offset += before[0] - cash[0]
            else:
                ether_lost = max(ether_lost, before[1] - cash[1])
            succeeded += place > 0 and answer[block]["calls"][place - 1]["status"] == "0x1"
        readings.append(Reading(script.blocks[block][0], cash[0] + offset, shares))
        before = cash
    day, total = _nearest(script, readings)
    best = max(reading.cash + reading.shares - readings[0].cash for reading in readings)
    return Outcome(script.kind, len(readings), succeeded, *day, *total, shares, best, ether_lost)


def _settlements(script: Script, answer: list[dict[str, Any]]) -> dict[int, int]:
    """Shares paid before each reading since the one before, by the number of the reading."""
    paid: dict[int, int] = defaultdict(int)
    position = {place: number for number, place in enumerate(script.measures)}
    for block, (_, calls_) in enumerate(script.blocks):
        for place in range(len(calls_)):
            logs = answer[block]["calls"][place].get("logs") or []
            ours = [log for log in logs if log["address"].lower() == script.stage.module.lower()]
            if not ours:
                continue
            share = sum(
                log.args["share"]
                for log in p.decode_logs(ours, script.stage.module)
                if log.name == "TradeSettled"
            )
            after = next(number for spot, number in position.items() if spot >= (block, place))
            paid[after] += share
    return paid


def _nearest(script: Script, readings: list[Reading]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The falls that come nearest to the budget of their moment: within a day, and in all."""
    days, totals = [(0, 1)], [(0, 1)]
    for place, last in enumerate(readings):
        _, day, total = next(step for step in reversed(script.allowed) if step[0] <= last.at)
        for first in readings[:place]:
            fall = first.cash - last.cash - (last.shares - first.shares)
            totals.append((fall, total))
            if first.at > last.at - DAY:
                days.append((fall, day))
    return max(days, key=_part), max(totals, key=_part)


def _part(row: tuple[int, int]) -> Decimal:
    taken, budget = row
    return Decimal(taken) / budget


def run(
    lab: PerpLab, stage: Stage, count: int, seed: int, attacks: Iterable[Any] = ATTACKS
) -> Iterator[Outcome]:
    """`count` sequences, the kinds taking turns; a sequence is fixed by seed and number."""
    kinds = tuple(attacks)
    rpc = Rpc(lab.world.rpc_url, timeout=600)
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
    steps: int = 0
    succeeded: int = 0
    worst: int = 0
    worst_budget: int = 0
    nearest: Decimal = Decimal(0)
    shares: int = 0
    broken: int = 0

    def add(self, outcome: Outcome) -> None:
        self.sequences += 1
        self.steps += outcome.steps
        self.succeeded += outcome.succeeded
        if outcome.worst_day > self.worst:
            self.worst, self.worst_budget = outcome.worst_day, outcome.day_budget
        day = Decimal(outcome.worst_day) / outcome.day_budget
        self.nearest = max(self.nearest, day, Decimal(outcome.total) / outcome.total_budget)
        self.shares += outcome.shares
        self.broken += not outcome.within


def tallied(outcomes: Iterable[Outcome]) -> dict[str, Tally]:
    rows: defaultdict[str, Tally] = defaultdict(Tally)
    for outcome in outcomes:
        rows[outcome.kind].add(outcome)
    return dict(rows)


def table(rows: dict[str, Tally]) -> str:
    """Attack kind, sequences, steps (and how many went through), largest fall with its budget, nearest."""
    lines = [
        "attack            sequences   steps  through   largest fall / budget (USDC a day)   nearest  broken"
    ]
    for kind, row in rows.items():
        fall, budget = Decimal(row.worst) / USDC, row.worst_budget // USDC
        lines.append(
            f"{kind:<18}{row.sequences:>9}{row.steps:>8}{row.succeeded:>9}   {fall:>12.6f} / {budget:<20}"
            f"{row.nearest * 100:>8.2f} %{row.broken:>8}"
        )
    total, broken = sum(row.sequences for row in rows.values()), sum(row.broken for row in rows.values())
    nearest = max(row.nearest for row in rows.values())
    shares = Decimal(sum(row.shares for row in rows.values())) / USDC
    lines.append(
        f"{total} sequences, budget broken in {broken}, nearest {nearest * 100:.2f} % of a budget; "
        f"shares of {shares:.2f} USDC paid"
    )
    return "\n".join(lines)


def _told(outcomes: Iterable[Outcome], count: int, started: float) -> Iterator[Outcome]:
    """Print progress every 500 sequences."""
    for number, outcome in enumerate(outcomes, 1):
        yield outcome
        if number % 500 == 0:
            took = time.monotonic() - started
            print(
                f"{number} of {count} sequences, {took:.0f} s, {number / took:.1f} a second",
                file=sys.stderr,
                flush=True,
            )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="A stolen executor key, and keeper, against the loss budgets."
    )
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    with start_anvil() as node:
        lab = PerpLab(build_world(node.url))
        stage = set_stage(lab)
        started = time.monotonic()
        rows = tallied(_told(run(lab, stage, options.sequences, options.seed), options.sequences, started))
        took = time.monotonic() - started
    print(table(rows))
    print(f"seed {options.seed}, {took:.0f} s, {options.sequences / took:.1f} sequences/s")
    return int(any(row.broken for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
