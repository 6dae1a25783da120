"""A trader on the double of GMX v2: short words for what its tests do again and again."""

from decimal import Decimal
from typing import Any

from maxxit.evm.codec import ZERO_ADDRESS, encode_call
from maxxit.ops.devchain.gmx import USD, data_key
from maxxit.ops.devchain.keeper import Keeper
from maxxit.ops.devchain.world import World, transact
from tests.chain.gmx import router
from tests.chain.gmx.router import OrderParams
from tests.chain.lab import USDC, Lab
from trading.venues.gmx import calls
from trading.venues.gmx.calls import OrderType
from trading.venues.gmx.events import Decoded, OrderCreated, decode_logs

FEE = 10**17
"""Execution fee of an order, wei."""
HIGHEST = 2**256 - 1


class GmxLab(Lab):
    """The account `rogue`, which needs no Safe, trades on the ETH market."""

    def __init__(self, world: World) -> None:
        self.gmx = world.gmx
        self.account = world.accounts["rogue"]
        self.keeper = Keeper(world)
        self.market = self.gmx.markets["WETH"]
        world.mint("USDC", self.account, 100_000 * USDC)
        world.send("rogue", world.usdc, encode_call("approve(address,uint256)", self.gmx.router, 2**255))
        super().__init__(world)

    # -- acting

    def order(
        self, kind: OrderType, size: int, *, is_long: bool = True, collateral: int = 0, **more: Any
    ) -> bytes:
        """Create an order as the trader; returns its key. `size` in USD."""
        increase = kind in (OrderType.MARKET_INCREASE, OrderType.LIMIT_INCREASE, OrderType.STOP_INCREASE)
        worst = HIGHEST if increase == is_long else 0
        fee = more.pop("execution_fee", FEE)
        values = {
            "receiver": self.account, "cancellation_receiver": self.account,
            "callback_contract": ZERO_ADDRESS, "market": self.market,
            "initial_collateral_token": self.world.usdc, "size_delta_usd": size * USD, "order_type": kind,
            "is_long": is_long, "acceptable_price": worst, "execution_fee": fee,
        } | more  # fmt: skip
        batch = [router.send_wnt(self.gmx.order_vault, fee)]
        if collateral:
            batch.append(router.send_tokens(self.world.usdc, self.gmx.order_vault, collateral))
        batch.append(router.create_order(OrderParams(**values)))
        receipt = self.act(router.multicall(batch), value=fee)
        (created,) = self.decoded(receipt).of(OrderCreated)
        return bytes.fromhex(created.key[2:])

    def enter(self, size: int = 10_000, collateral: int = 1_000 * USDC, **more: Any) -> bytes:
        """Create a market increase and execute it; returns its key."""
        key = self.order(OrderType.MARKET_INCREASE, size, collateral=collateral, **more)
        self.execute(key)
        return key

    def act(self, data: bytes, value: int = 0) -> dict[str, Any]:
        """A transaction of the trader to the ExchangeRouter."""
        return transact(self.rpc, self.account, self.gmx.exchange_router, data, value)

    def execute(self, key: bytes, price: Any = None, **more: Any) -> Decoded:
        return self.decoded(self.keeper.execute(key, None if price is None else Decimal(price), **more))

    # -- looking

    def decoded(self, receipt: dict[str, Any]) -> Decoded:
        """The events of a transaction; all of them are known."""
        found = decode_logs(receipt["logs"], self.gmx.event_emitter)
        assert found.problems == ()
        return found

    def decoded_any(self, receipt: dict[str, Any]) -> Decoded:
        """The events of a transaction, others than known ones aside."""
        return decode_logs(receipt["logs"], self.gmx.event_emitter)

    def value(self, name: str, *words: Any, types: str = "") -> int:
        """A number of the data store."""
        return self.number("getUint(bytes32)", data_key(name, *words, types=types), to=self.gmx.data_store)

    def set_value(self, amount: int, name: str, *words: Any, types: str = "") -> None:
        """Write the data store as a controller."""
        key = data_key(name, *words, types=types)
        self.world.send("deployer", self.gmx.data_store, encode_call("setUint(bytes32,uint256)", key, amount))

    def positions(self) -> list[calls.PositionState]:
        call = calls.account_positions(self.gmx.data_store, self.account)
        return calls.decode_positions(self._reader(call))

    def orders(self) -> list[calls.OrderState]:
        return calls.decode_orders(self._reader(calls.account_orders(self.gmx.data_store, self.account)))

    def ether(self, account: str) -> int:
        return int(self.rpc("eth_getBalance", account, "latest"), 16)

    def _reader(self, call: bytes) -> bytes:
        answer: str = self.rpc("eth_call", {"to": self.gmx.reader, "data": "0x" + call.hex()}, "latest")
        return bytes.fromhex(answer[2:])


def error(signature: str, *args: Any) -> str:
    """The revert data of a custom error of GMX, as `Reverted` and reasonBytes show it."""
    return "0x" + encode_call(signature, *args).hex()


__all__ = ["FEE", "HIGHEST", "USD", "USDC", "GmxLab", "OrderType", "error"]
