"""Uniswap V3 feed: QuoterV2's quotes for a trade of a given size in both directions.

The price is the mid, its confidence half of the distance, which includes fee, depth and price impact. A pool can be
manipulated within a block, so this feed validates other sources and is never the only one.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from eth_abi.abi import encode
from pydantic import Field

from maxxit.core.config import Policy
from maxxit.market.feeds import evm, wire
from maxxit.market.feeds.base import Tick

SELL = evm.selector("quoteExactInputSingle((address,address,uint256,uint24,uint160))")
BUY = evm.selector("quoteExactOutputSingle((address,address,uint256,uint24,uint160))")
WORD = 32
"""Bytes of an ABI word."""
TERMS = ["(address,address,uint256,uint24,uint160)"]


class Pool(Policy):
    """One token's pool against the dollar token."""

    token: str
    decimals: Annotated[int, Field(ge=0, le=36)]
    fee: Annotated[int, Field(gt=0, lt=1_000_000)]
    """Hundredths of a basis point: 500 is 0.05 %."""
    size: Annotated[Decimal, Field(gt=0)]
    """Quantity that is quoted, in tokens: about one order."""


class Dex:
    """`usd`: the dollar token's address. `pools`: symbol -> pool."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        quoter: str,
        usd: str,
        pools: Mapping[str, Any],
        usd_decimals: int = 6,
        multicall: str = evm.MULTICALL3,
        timeout: float = 10.0,
    ) -> None:
        self.name, self.quoter, self.usd, self.multicall = name, quoter, usd, multicall
        self.usd_decimals = usd_decimals
        self.pools = {symbol: Pool.model_validate(one) for symbol, one in pools.items()}
        self.http = wire.api_client(name, base_url, timeout=float(timeout), own_node=True)

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Read two quotes per symbol, all in one request; a pool that does not answer is left out."""
        wanted = [symbol for symbol in symbols if symbol in self.pools]
        if not wanted:
            return {}
        calls = [(self.quoter, data) for symbol in wanted for data in self._asks(self.pools[symbol])]
        block_time, answers = evm.aggregate(self.http, calls, multicall=self.multicall)
        sides = [
            (symbol, got, paid)
            for symbol, got, paid in zip(wanted, answers[::2], answers[1::2], strict=True)
            if got and paid
        ]
        wire.name_missing(self.name, wanted, [symbol for symbol, _, _ in sides])
        ticks = wire.each(self.name, sides, lambda one: self._tick(*one, block_time))
        return {tick.symbol: tick for tick in ticks}

    def _asks(self, pool: Pool) -> tuple[bytes, bytes]:
        amount = int(pool.size.scaleb(pool.decimals))
        sell = SELL + encode(TERMS, [(pool.token, self.usd, amount, pool.fee, 0)])
        return sell, BUY + encode(TERMS, [(self.usd, pool.token, amount, pool.fee, 0)])

    def _tick(self, symbol: str, got: bytes, paid: bytes, block_time: int) -> Tick:
        if min(len(got), len(paid)) < WORD:
            raise ValueError(f"the quoter's answer for {symbol} is cut off")
        bid, ask = (
            Decimal(int.from_bytes(said[:WORD], "big")).scaleb(-self.usd_decimals) / self.pools[symbol].size
            for said in (got, paid)
        )
        at = datetime.fromtimestamp(block_time, UTC)
        return Tick(symbol, (bid + ask) / 2, at, self.name, abs(ask - bid) / 2)
