"""A local world with a Safe that trades perpetuals on the double of GMX: short words for what these tests do again."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.gmx import USD, data_key
from maxxit.ops.devchain.keeper import Keeper
from maxxit.ops.devchain.world import Builder, World, transact
from tests.chain.lab import DAY, QUARTER, USDC, Lab, reverts, trade
from trading.venues.gmx.contract import module as p

__all__ = ["DAY", "FEE", "QUARTER", "USD", "USDC", "PerpLab", "deploy_module", "reverts", "trade"]

FEE = 10**17
"""Execution fee of an order in these tests, wei."""
HIGHEST = 2**256 - 1
MODULE_ARGS = ["address"] * 7


def module_args(world: World) -> list[str]:
    """The constructor's arguments."""
    gmx = world.gmx
    return [
        world.usdc, gmx.wrapped_native, gmx.exchange_router, gmx.order_vault, gmx.data_store, gmx.role_store,
        world.sequencer_feed,
    ]  # fmt: skip


def deploy_module(world: World) -> str:
    """Deploy PerpModule and enable it in the demo user's Safe."""
    module = Builder(world.rpc_url).local("PerpModule", MODULE_ARGS, module_args(world))
    world.rpc("anvil_autoImpersonateAccount", True)
    world.rpc("anvil_setBalance", world.safe, hex(10**20))
    transact(world.rpc, world.safe, world.safe, encode_call("enableModule(address)", module))
    return module


class PerpLab(Lab):
    """One world on one anvil. `fresh()` puts it back as it was after building, with the demo policy in force."""

    def __init__(self, world: World) -> None:
        self.gmx, self.keeper = world.gmx, Keeper(world)
        self.planted: str | None = None
        """Code that stands in the module's place after each `fresh`, of a planted bug."""
        self.module = deploy_module(world)
        self.world = world
        self.rpc = world.rpc
        self.safe = world.safe
        self.sign()
        module = self.module
        super().__init__(world)
        self.module = module

    def fresh(self) -> None:
        """Undo everything since the world was built, but for a planted bug."""
        super().fresh()
        if self.planted is not None:
            self.rpc("anvil_setCode", self.module, self.planted)

    # -- policy

    def market(self, symbol: str = "WETH") -> str:
        return self.gmx.markets[symbol]

    def rules(self) -> list[p.MarketRule]:
        """The demo policy's markets: ETH and BTC, both sides, feeds valid for an hour."""
        return [
            p.MarketRule(self.market(token.symbol), token.decimals, token.feed, 3_600)
            for token in self.world.tokens
        ]

    def demo(self, **changes: Any) -> p.Policy:
        """The demo policy: 10 to 100 USDC a trade at most tenfold, 250 USDC a day may be lost."""
        accounts = self.world.accounts
        policy = p.Policy(
            executor=accounts["executor"], guardian=accounts["guardian"], fee_receiver=accounts["fee_receiver"],
            profit_receiver=accounts["profit_receiver"], min_collateral=10 * USDC, max_collateral=100 * USDC,
            max_leverage_bps=100_000, max_notional=1_000 * USDC, daily_collateral=1_000 * USDC,
            daily_notional=10_000 * USDC, trades_per_day=24, cooldown=1, slippage_bps=100, max_execution_fee=FEE,
            loss_budget=250 * USDC, total_loss_budget=1_000 * USDC,
        )  # fmt: skip
        return replace(policy, **changes)

    def sign(self, rules: list[p.MarketRule] | None = None, **changes: Any) -> list[p.Log]:
        """The Safe sets the demo policy with changes."""
        return self.send(self.safe, p.set_policy_data(self.demo(**changes), rules or self.rules()))

    # -- acting

    def send(self, sender: str, data: bytes, to: str | None = None, value: int = 0) -> list[p.Log]:
        """A transaction to the module (or `to`) from a role or an address; the module's events in it."""
        address = self.world.accounts.get(sender, sender)
        receipt = transact(self.rpc, address, to or self.module, data, value)
        return p.decode_logs(receipt["logs"], self.module)

    def units(self, price: Decimal | str, symbol: str = "WETH") -> int:
        """A price in GMX's units."""
        return int(Decimal(price).scaleb(30 - self.world.token(symbol).decimals))

    def opening(
        self, name: str = "a", symbol: str = "WETH", *, collateral: int = 100 * USDC, leverage: int = 5,
        short: bool = False, **changes: Any,
    ) -> p.Opening:  # fmt: skip
        """An opening that accepts half a percent, without stop and target; `changes` of its fields."""
        worst = self.world.price(symbol) * (Decimal("0.995") if short else Decimal("1.005"))
        opening = p.Opening(
            trade(name), self.market(symbol), not short, collateral, collateral * leverage * USD // USDC,
            self.units(worst, symbol), 0, 0, FEE,
        )  # fmt: skip
        return replace(opening, **changes)

    def request(
        self, name: str = "a", symbol: str = "WETH", *, by: str = "executor", safe: str | None = None,
        value: int | None = None, deadline: int = 600, **changes: Any,
    ) -> p.Log:  # fmt: skip
        """Order a position; its PositionRequested. `deadline` in seconds from the latest block."""
        opening = self.opening(name, symbol, **changes)
        data = p.open_data(safe or self.safe, opening, self.world.now() + deadline)
        return self.send(by, data, value=opening.value if value is None else value)[-1]

    def open(self, name: str = "a", symbol: str = "WETH", **changes: Any) -> p.Log:  # type: ignore[override]
        """Order a position, and the keeper executes it; its PositionRequested."""
        requested = self.request(name, symbol, **changes)
        self.execute(requested.args["order_key"])
        return requested

    def request_close(
        self, name: str = "a", size_usd: int = p.ALL, *, by: str = "executor", acceptable: int | None = None,
        safe: str | None = None, deadline: int = 600, value: int | None = None, fee: int = FEE,
    ) -> p.Log:  # fmt: skip
        """Order the close of (a part of) a position at the feed's price; its CloseRequested."""
        found = self.trade(name)
        symbol = next(
            (name for name, market in self.gmx.markets.items() if found and market == found.market), "WETH"
        )
        price = self.units(self.world.price(symbol), symbol) if acceptable is None else acceptable
        data = p.close_data(
            safe or self.safe, trade(name), acceptable_price=price, execution_fee=fee,
            deadline=self.world.now() + deadline, size_usd=size_usd,
        )  # fmt: skip
        return self.send(by, data, value=fee if value is None else value)[-1]

    def close(self, name: str = "a", size_usd: int = p.ALL, **how: Any) -> list[p.Log]:  # type: ignore[override]
        """Order a close at any price that the policy allows, and the keeper executes it; the events of that."""
        found = self.trade(name)
        assert found is not None
        symbol = next(name for name, market in self.gmx.markets.items() if market == found.market)
        edge = Decimal("0.99") if found.is_long else Decimal("1.01")
        how.setdefault("acceptable", self.units(self.world.price(symbol) * edge, symbol) + found.is_long)
        return self.execute(self.request_close(name, size_usd, **how).args["order_key"])

    def execute(self, key: bytes, price: Decimal | str | None = None) -> list[p.Log]:
        """The keeper executes an order at the feed's price, or another; the module's events."""
        receipt = self.keeper.execute(key, None if price is None else Decimal(price))
        return p.decode_logs(receipt["logs"], self.module)

    def cancel(self, key: bytes, by: str = "executor") -> list[p.Log]:
        return self.send(by, p.cancel_data(self.safe, key))

    def settle(self, name: str = "a", by: str = "rogue") -> p.Log:
        return self.send(by, p.settle_data(self.safe, trade(name)))[-1]

    def feed(self, price: Decimal | str | int, symbol: str = "WETH") -> None:
        """The feed moves, and with it the keeper's prices."""
        self.world.set_feed(symbol, Decimal(price))

    def liquidate(self, price: Decimal | str, symbol: str = "WETH", *, is_long: bool = True) -> list[p.Log]:
        receipt = self.keeper.liquidate(self.safe, self.market(symbol), is_long=is_long, price=Decimal(price))
        return p.decode_logs(receipt["logs"], self.module)

    # -- looking

    def trade(self, name: str = "a", safe: str | None = None) -> p.Trade | None:
        return p.decode_trade(self.raw(p.trade_data(safe or self.safe, trade(name))))

    def known(self, name: str = "a") -> p.Trade:
        found = self.trade(name)
        assert found is not None
        return found

    def headroom(self) -> p.Headroom:  # type: ignore[override]
        return p.decode_headroom(self.raw(p.headroom_data(self.safe)))

    def policy(self) -> p.Policy:  # type: ignore[override]
        """The policy in force."""
        return p.decode_policy(self.raw(p.policies_data(self.safe)))

    def pending(self) -> p.PendingPolicy | None:  # type: ignore[override]
        """The policy that waits for its time."""
        return p.decode_pending(self.raw(p.pending_data(self.safe)))

    def listed(self) -> tuple[p.MarketRule, ...]:
        """The market rules of the policy in force."""
        return p.decode_listed(self.raw(p.listed_data(self.safe)))

    def reserved(self) -> int:
        return self.number("reserved(address)", self.safe)

    def unshared(self) -> int:
        return self.number("unshared(address)", self.safe)

    def charged(self) -> int:
        return self.number("total_charged(address)", self.safe)

    def ether(self, account: str) -> int:
        return int(self.rpc("eth_getBalance", self.world.accounts.get(account, account), "latest"), 16)

    def holds_order(self, key: bytes) -> bool:
        """Whether GMX still has an order."""
        call = "containsBytes32(bytes32,bytes32)"
        return bool(self.number(call, data_key("ORDER_LIST"), key, to=self.gmx.data_store))

    def position_size(self, symbol: str = "WETH", *, is_long: bool = True, account: str | None = None) -> int:
        """Size of a position at GMX, USD × 10^30; 0: there is none."""
        from eth_abi.abi import encode
        from eth_utils.crypto import keccak

        words = [account or self.safe, self.market(symbol), self.world.usdc, is_long]
        key = keccak(encode(["address", "address", "address", "bool"], words))
        field = keccak(encode(["bytes32", "bytes32"], [key, data_key("SIZE_IN_USD")]))
        return self.number("getUint(bytes32)", field, to=self.gmx.data_store)

    def set_value(self, amount: int, name: str, *words: Any, types: str = "") -> None:
        """Write GMX's data store as a controller."""
        key = data_key(name, *words, types=types)
        self.world.send("deployer", self.gmx.data_store, encode_call("setUint(bytes32,uint256)", key, amount))

    def logs(self) -> list[p.Log]:
        """Every event that the module has ever emitted."""
        found = self.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.module})
        return p.decode_logs(found, self.module)

    # -- other Safes

    def another_safe(self, usdc: int = 10_000 * USDC, **changes: Any) -> str:
        """A second user's Safe with module, policy and money."""
        safe = Builder(self.world.rpc_url).safe([self.world.accounts["rogue"]])
        self.rpc("anvil_setBalance", safe, hex(10**20))
        transact(self.rpc, safe, safe, encode_call("enableModule(address)", self.module))
        self.send(safe, p.set_policy_data(self.demo(**changes), self.rules()))
        self.world.mint("USDC", safe, usdc)
        return safe
