"""A local world to experiment in: short words for what the chain tests do again and again."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from maxxit.evm.codec import decode, encode_call
from maxxit.ops.devchain.anvil import revert_to
from maxxit.ops.devchain.world import Builder, Reverted, TokenInfo, World, read, transact
from trading.venues.safe.contract import module as m

USDC = 10**6
DAY = 86_400
QUARTER = DAY // 4


def trade(name: str) -> bytes:
    """A trade id for a test."""
    return m.trade_id("test", name)


@contextlib.contextmanager
def reverts(reason: str) -> Iterator[None]:
    """The transaction inside must revert, and for this reason."""
    with pytest.raises(Reverted, match=f"^{reason}"):
        yield


@dataclass(frozen=True, slots=True)
class OnChainPosition:
    """A position as the module stores it. `cost` includes the fee and refers to the quantity still held."""

    token: str
    quantity: int
    cost: int
    eroded: int
    reserve: int
    share_bps: int
    profit_receiver: str


class Lab:
    """One world on one anvil. `fresh()` puts it back as it was after building."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rpc = world.rpc
        self.safe, self.module = world.safe, world.module
        self.rpc("anvil_autoImpersonateAccount", True)
        self.rpc("anvil_setBalance", self.safe, hex(10**20))
        self._snapshot: str = self.rpc("evm_snapshot")

    def fresh(self) -> None:
        """Undo everything since the world was built."""
        revert_to(self.rpc, self._snapshot)
        self._snapshot = self.rpc("evm_snapshot")

    # -- time

    def advance(self, seconds: int, *, fresh: bool = True) -> None:
        """Let time pass; feeds are refreshed unless `fresh` is False."""
        self.rpc("evm_increaseTime", hex(seconds))
        self.rpc("evm_mine")
        if fresh:
            self.world.refresh_feeds()

    def to_quarter_end(self, before: int = 60) -> None:
        """Go to `before` seconds before the end of a quarter day, the module's bucket."""
        self.advance(QUARTER - self.world.now() % QUARTER + QUARTER - before)

    # -- acting

    def send(self, sender: str, data: bytes, to: str | None = None) -> list[m.Log]:
        """A transaction to the module (or `to`) from a role or an address; the module's events in it."""
        address = self.world.accounts.get(sender, sender)
        receipt = transact(self.rpc, address, to or self.module, data)
        return m.decode_logs(receipt["logs"], self.module)

    def open(
        self, name: str = "a", symbol: str = "WETH", usdc: int = 1_000 * USDC, *, min_out: int = 0,
        by: str = "executor", safe: str | None = None, token: str | None = None, deadline: int = 600,
    ) -> m.Log:  # fmt: skip
        """Open a position; its PositionOpened. `deadline` in seconds from the latest block."""
        address = token or self.world.address_of(symbol)
        data = m.open_data(
            safe or self.safe, trade(name), address, usdc, min_out, self.world.now() + deadline
        )
        return self.send(by, data)[-1]

    def close(
        self, name: str = "a", quantity: int = m.ALL, *, min_out: int = 0, by: str = "executor",
        safe: str | None = None, deadline: int = 600,
    ) -> m.Log:  # fmt: skip
        """Close (a part of) a position; its PositionClosed."""
        data = m.close_data(safe or self.safe, trade(name), min_out, self.world.now() + deadline, quantity)
        return self.send(by, data)[-1]

    def set_policy(self, rules: list[m.TokenRule] | None = None, **changes: Any) -> list[m.Log]:
        """The Safe sets the demo policy with changes."""
        policy = self.world.policy(**changes)
        return self.send(self.safe, m.set_policy_data(policy, rules or self.world.rules()))

    def skew(self, symbol: str, factor: str) -> None:
        """Push the pools to `factor` times the feed's price: what an attacker does around a trade."""
        self.world.set_pool_price(symbol, self.world.price(symbol) * Decimal(factor))

    def move(self, symbol: str, factor: str) -> None:
        """The whole market moves by `factor`."""
        self.world.move_price(symbol, self.world.price(symbol) * Decimal(factor))

    # -- looking

    def usdc(self, account: str | None = None) -> int:
        account = account or self.safe
        return self.world.balance("USDC", self.world.accounts.get(account, account))

    def held(self, symbol: str = "WETH") -> int:
        return self.world.balance(symbol, self.safe)

    def headroom(self) -> m.Headroom:
        return m.decode_headroom(self.raw(m.headroom_data(self.safe)))

    def policy(self) -> m.Policy:
        """The policy in force."""
        return m.decode_policy(self.raw(m.policies_data(self.safe)))

    def pending(self) -> m.PendingPolicy | None:
        """The policy that waits for its time."""
        return m.decode_pending(self.raw(m.pending_data(self.safe)))

    def position(self, name: str = "a") -> OnChainPosition:
        answer = self.raw(encode_call("position(address,bytes32)", self.safe, trade(name)))
        token, quantity, terms, receiver = decode(
            ["address", "uint256", "(uint256,uint256,uint256,uint256)", "address"], answer
        )
        cost, eroded, reserve, share_bps = terms
        return OnChainPosition(token, quantity, cost, eroded, reserve, share_bps, receiver)

    def number(self, signature: str, *args: Any, to: str | None = None) -> int:
        """A view that answers one integer."""
        value: int = read(self.rpc, to or self.module, encode_call(signature, *args), ["int256"])[0]
        return value

    def raw(self, data: bytes) -> bytes:
        answer: str = self.rpc("eth_call", {"to": self.module, "data": "0x" + data.hex()}, "latest")
        return bytes.fromhex(answer[2:])

    def allowance(self, symbol: str) -> int:
        """What the router may still take of the Safe's `symbol`."""
        token = self.world.address_of(symbol)
        return self.number("allowance(address,address)", self.safe, self.world.router, to=token)

    def logs(self) -> list[m.Log]:
        """Every event that the module has ever emitted."""
        found = self.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", "address": self.module})
        return m.decode_logs(found, self.module)

    # -- other Safes, hostile tokens

    def another_safe(self, usdc: int = 10_000 * USDC, **changes: Any) -> str:
        """A second user's Safe with module, policy and money."""
        safe = Builder(self.world.rpc_url).safe([self.world.accounts["rogue"]])
        self.rpc("anvil_setBalance", safe, hex(10**20))
        transact(self.rpc, safe, safe, encode_call("enableModule(address)", self.module))
        self.send(safe, m.set_policy_data(self.world.policy(**changes), self.world.rules()))
        self.world.mint("USDC", safe, usdc)
        return safe

    def hostile_token(self, decimals: int = 18, **changes: Any) -> TokenInfo:
        """A HostileToken at 100 USD with a deep pool, listed by the Safe beside the others; still tame."""
        builder = Builder(self.world.rpc_url)
        address = builder.local("HostileToken", ["uint8"], [decimals])
        feed = builder.local("Feed", ["uint8", "int256"], [8, 100 * 10**8])
        token = TokenInfo("EVIL", address, decimals, feed, {})
        builder.fund_trader(address, (self.world.router, self.world.position_manager))
        pool = builder.pool(
            self.world.factory, self.world.position_manager, self.world.usdc, token, 3000, Decimal(100)
        )
        token = replace(token, pools={"3000": pool})
        rules = [*self.world.rules(), m.TokenRule(address, feed, 3000, 3_600)]
        self.set_policy(rules, **changes)
        return token

    def tell(self, token: TokenInfo, signature: str, *args: Any) -> None:
        """A call to a hostile token."""
        transact(self.rpc, self.world.accounts["rogue"], token.address, encode_call(signature, *args))
