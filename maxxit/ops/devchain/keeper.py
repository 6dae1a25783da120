"""The keeper of the double of GMX v2: executes orders at prices that it brings, liquidates and deleverages.

Tests call it step by step, so it is as late as they let it be, or never comes. The demo runs `step` every second.
"""

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

from eth_abi.abi import encode

from maxxit.evm.codec import encode_call
from maxxit.ops.devchain.anvil import RpcError
from maxxit.ops.devchain.gmx import USD, data_key
from maxxit.ops.devchain.world import GAS, Reverted, World, read
from trading.venues.gmx.calls import ORDER, POSITION

PRICES = "(address[],address[],bytes[])"
USDC_DECIMALS = 6
UNPAYABLE = 1_000 * USD
"""Position fee of a thousand times the size."""


class Keeper:
    """Acts as the account `keeper`; prices are the world's feeds unless a call brings others, in USD.

    `step` executes an order `delay` seconds after its creation: after more than 300, a market order is never executed.
    """

    def __init__(self, world: World, delay: int = 0) -> None:
        self.world, self.delay = world, delay
        self.gmx = world.gmx
        self.symbols = {market: symbol for symbol, market in self.gmx.markets.items()}

    def execute(self, key: bytes, price: Decimal | None = None, *, age: int = 0) -> dict[str, Any]:
        """Execute an order; returns the receipt, also of an order that was cancelled or frozen.

        `age`: seconds by which the price is older than the next block. Raises Reverted with GMX's error where it is
        not the order's time.
        """
        return self.world.send("keeper", *self._execution(key, price, age))

    def liquidate(
        self, account: str, market: str, *, is_long: bool, price: Decimal | None = None
    ) -> dict[str, Any]:
        """Close a position that lacks collateral. Raises Reverted with PositionShouldNotBeLiquidated."""
        return self.world.send("keeper", *self._liquidation(account, market, is_long, price))

    def deleverage(
        self, account: str, market: str, size: int, *, is_long: bool, price: Decimal | None = None
    ) -> dict[str, Any]:
        """Enable auto-deleveraging of a side, and close `size` (USD × 10^30) of a position by it. Raises Reverted."""
        prices = self.prices(market, price)
        enable = encode_call(f"updateAdlState(address,bool,{PRICES})", market, is_long, prices)
        self.world.send("keeper", self.gmx.adl_handler, enable)
        signature = f"executeAdl(address,address,address,bool,uint256,{PRICES})"
        close = encode_call(signature, account, market, self.world.usdc, is_long, size, prices)
        return self.world.send("keeper", self.gmx.adl_handler, close)

    def fail(self, key: bytes, price: Decimal | None = None) -> dict[str, Any]:
        """Execute an order while position fees are more than anyone can pay.

        A market order is cancelled and its money returned; a limit or stop order freezes. Raises Reverted where it is
        not the order's time.
        """
        market = self.order(key)[0][5]
        factors = [data_key("POSITION_FEE_FACTOR", market, flag, types="ab") for flag in (False, True)]
        before = [
            read(self.world.rpc, self.gmx.data_store, encode_call("getUint(bytes32)", factor), ["uint256"])[0]
            for factor in factors
        ]
        set_values = "setUints(bytes32[],uint256[])"
        data = self.gmx.data_store
        self.world.send("deployer", data, encode_call(set_values, factors, [UNPAYABLE] * 2))
        try:
            return self.execute(key, price)
        finally:
            self.world.send("deployer", data, encode_call(set_values, factors, before))

    def step(self) -> list[dict[str, Any]]:
        """Execute every order whose time it is, and liquidate; returns the receipts."""
        todo = []
        for key in self.orders():
            with suppress(KeyError):  # it was cancelled after it was listed
                if self._is_due(key):
                    todo.append(self._execution(key))
        todo += [self._liquidation(*position) for position in self.positions()]
        receipts = []
        for to, data in todo:
            try:
                self._try(to, data)
                receipts.append(self.world.send("keeper", to, data))
            except Reverted:  # not its time, or gone
                continue
        return receipts

    # -- reads

    def orders(self) -> list[bytes]:
        """Return the keys of all orders that are not frozen."""
        return [key for key in self._listed("ORDER_LIST") if not self.order(key)[2][2]]

    def order(self, key: bytes) -> tuple[Any, ...]:
        """Return Order.Props: addresses, numbers, flags, data."""
        call = encode_call("getOrder(address,bytes32)", self.gmx.data_store, key)
        order: tuple[Any, ...] = read(self.world.rpc, self.gmx.reader, call, [ORDER])[0]
        return order

    def positions(self) -> Iterator[tuple[str, str, bool]]:
        """Yield account, market and side of every position."""
        for key in self._listed("POSITION_LIST"):
            call = encode_call("getPosition(address,bytes32)", self.gmx.data_store, key)
            (account, market, _), _, (is_long,) = read(self.world.rpc, self.gmx.reader, call, [POSITION])[0]
            yield account, market, is_long

    def prices(self, market: str, price: Decimal | None = None, *, age: int = 0) -> tuple[Any, ...]:
        """Return SetPricesParams: the market's index token at `price` USD and USDC at 1 USD."""
        symbol = self.symbols[market]
        token = self.world.token(symbol)
        time = self._next_time() - age
        quotes = (
            (token.address, self.world.price(symbol) if price is None else price, token.decimals),
            (self.world.usdc, Decimal(1), USDC_DECIMALS),
        )
        data = []
        for _, quote, decimals in quotes:
            units = int(quote.scaleb(30 - decimals))
            data.append(encode(["uint256"] * 3, [units, units, time]))
        keeper = self.world.accounts["keeper"]
        return ([quote[0] for quote in quotes], [keeper] * len(quotes), data)

    def _is_due(self, key: bytes) -> bool:
        updated_at: int = self.order(key)[1][9]
        return self._next_time() >= updated_at + self.delay

    def _next_time(self) -> int:
        """Return the Unix time of the next block."""
        return int(self.world.rpc("eth_getBlockByNumber", "pending", False)["timestamp"], 16)

    def _listed(self, name: str) -> list[bytes]:
        call = encode_call("getBytes32ValuesAt(bytes32,uint256,uint256)", data_key(name), 0, 128)
        keys: list[bytes] = read(self.world.rpc, self.gmx.data_store, call, ["bytes32[]"])[0]
        return list(keys)

    # -- calls: contract and calldata

    def _execution(self, key: bytes, price: Decimal | None = None, age: int = 0) -> tuple[str, bytes]:
        prices = self.prices(self.order(key)[0][5], price, age=age)
        return self.gmx.order_handler, encode_call(f"executeOrder(bytes32,{PRICES})", key, prices)

    def _liquidation(
        self, account: str, market: str, is_long: bool, price: Decimal | None = None
    ) -> tuple[str, bytes]:
        signature = f"executeLiquidation(address,address,address,bool,{PRICES})"
        prices = self.prices(market, price)
        call = encode_call(signature, account, market, self.world.usdc, is_long, prices)
        return self.gmx.liquidation_handler, call

    def _try(self, to: str, data: bytes) -> None:
        """Call without sending. Raises Reverted."""
        request = {
            "from": self.world.accounts["keeper"], "to": to, "data": "0x" + data.hex(), "gas": hex(GAS),
        }  # fmt: skip
        try:
            self.world.rpc("eth_call", request, "pending")
        except RpcError as error:
            raise Reverted(str(error)) from error
