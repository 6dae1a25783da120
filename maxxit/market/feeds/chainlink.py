"""Chainlink feed: `latestRoundData` of many aggregators in one call, with heartbeats and the sequencer's state.

An aggregator updates only when the price has moved by its deviation threshold or its heartbeat has passed. An answer
younger than the heartbeat is therefore current at the block that was read: the tick has that block's time, and the
threshold as confidence. An older answer keeps its own time and is rejected as stale. Rounds of prices and of the
sequencer are validated as in TradingModule.vy (tests/market/test_chain_feeds.py).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from maxxit.core.config import BasisPoints, Policy, Seconds
from maxxit.core.errors import Retryable
from maxxit.core.terms import BPS
from maxxit.market.feeds import evm, wire
from maxxit.market.feeds.base import Tick

ROUND = evm.selector("latestRoundData()")
DECIMALS = evm.selector("decimals()")
ROUND_TYPES = ["uint256", "int256", "uint256", "uint256", "uint256"]
"""Round ids are uint80; as in the module they are not used, and their size is not checked."""
MOST_DECIMALS = 255
"""Maximum of `decimals()`, a uint8."""


class Aggregator(Policy):
    """One price feed contract."""

    address: str
    heartbeat_seconds: Seconds
    deviation_bps: BasisPoints


class Chainlink:
    """`aggregators`: symbol -> contract. `sequencer`: the L2's uptime feed, empty on chains without one."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        aggregators: Mapping[str, Any],
        sequencer: str = "",
        grace_seconds: int = 3600,
        multicall: str = evm.MULTICALL3,
        timeout: float = 10.0,
    ) -> None:
        self.name, self.sequencer, self.grace, self.multicall = name, sequencer, grace_seconds, multicall
        self.aggregators = {symbol: Aggregator.model_validate(one) for symbol, one in aggregators.items()}
        self.http = wire.api_client(name, base_url, timeout=float(timeout), own_node=True)
        self._decimals: dict[str, int] = {}

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Read all prices, 500 reads per request. Raises Retryable during a sequencer outage and its grace period."""
        wanted = [symbol for symbol in symbols if symbol in self.aggregators]
        unknown = [symbol for symbol in wanted if symbol not in self._decimals]
        calls = [(self.aggregators[symbol].address, ROUND) for symbol in wanted]
        calls += [(self.aggregators[symbol].address, DECIMALS) for symbol in unknown]
        if self.sequencer:
            calls.append((self.sequencer, ROUND))
        if not wanted:
            return {}
        block_time, answers = evm.aggregate(self.http, calls, multicall=self.multicall)
        if self.sequencer:
            self._check_sequencer(answers[-1], block_time)
        for symbol, said in zip(unknown, answers[len(wanted) :], strict=False):
            if said and (digits := int.from_bytes(said, "big")) <= MOST_DECIMALS:  # else it is asked again
                self._decimals[symbol] = digits
        rounds = [
            (symbol, said)
            for symbol, said in zip(wanted, answers, strict=False)
            if said and symbol in self._decimals
        ]
        wire.name_missing(self.name, wanted, [symbol for symbol, _ in rounds])
        ticks = wire.each(self.name, rounds, lambda one: self._tick(*one, block_time))
        return {tick.symbol: tick for tick in ticks}

    def _tick(self, symbol: str, said: bytes, block_time: int) -> Tick:
        answer, _, updated_at = _round(said)
        contract = self.aggregators[symbol]
        price = Decimal(answer).scaleb(-self._decimals[symbol])
        age = block_time - updated_at
        if age < 0:
            raise ValueError(f"the round of {symbol} is {-age} seconds from the future")
        alive = age <= contract.heartbeat_seconds
        at = datetime.fromtimestamp(block_time if alive else updated_at, UTC)
        return Tick(symbol, price, at, self.name, abs(price) * contract.deviation_bps / BPS)

    def _check_sequencer(self, said: bytes | None, block_time: int) -> None:
        """Raise Retryable unless the sequencer has been up for the grace period: earlier prices may predate the outage.

        Answer 0 means up; `startedAt` is the time of the last change.
        """
        with wire.shaped(f"{self.name}: the sequencer feed"):
            if said is None:
                raise Retryable(f"{self.name}: the sequencer feed does not answer")
            down, since, _ = _round(said)
            if down:
                raise Retryable(
                    f"{self.name}: the sequencer is down since {datetime.fromtimestamp(since, UTC):%H:%M} UTC"
                )
        if not since:
            raise Retryable(f"{self.name}: the sequencer feed has no round yet")
        if block_time - since < self.grace:
            raise Retryable(
                f"{self.name}: the sequencer is back for {block_time - since} of {self.grace} seconds"
            )


def _round(said: bytes) -> tuple[int, int, int]:
    """Decode (answer, startedAt, updatedAt) of a round. Raises ValueError for malformed data."""
    try:
        _, answer, started_at, updated_at, _ = decode(ROUND_TYPES, said)
    except DecodingError as error:  # no ValueError of its own
        raise ValueError(str(error)) from error
    return answer, started_at, updated_at
