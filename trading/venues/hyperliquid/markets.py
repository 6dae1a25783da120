"""The markets that are traded: an allowlist of config/venues.yaml, held against what Hyperliquid lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected
from trading.reasons import Reason
from trading.venues.hyperliquid.client import Client

META_FOR = timedelta(minutes=10)
"""How long the list of markets is used again."""


@dataclass(frozen=True, slots=True)
class Market:
    """A perpetual future of the first dex."""

    coin: str
    asset: int
    """Its place in the list of markets, which orders name it by."""
    sz_decimals: int
    """Decimals of a size."""


def read_markets(stanza: Mapping[str, Any]) -> dict[str, Market]:
    """Return coin -> market of the option `markets`. Raises Misconfigured for anything but whole numbers."""
    markets = {}
    for coin, one in stanza.items():
        numbers = [one.get(name) for name in ("asset", "sz_decimals")] if isinstance(one, Mapping) else [None]
        if any(not isinstance(value, int) or isinstance(value, bool) or value < 0 for value in numbers):
            raise Misconfigured(
                f"venue hyperliquid: markets.{coin} is {one!r}; write {{asset: 0, sz_decimals: 5}} with the "
                "market's place in Hyperliquid's list and its size decimals"
            )
        if numbers[0] >= 10_000 or numbers[1] > 6:  # type: ignore[operator]  # both are numbers
            raise Misconfigured(f"venue hyperliquid: markets.{coin} is not a perpetual future: {one!r}")
        markets[str(coin)] = Market(str(coin), *numbers)
    if not markets:
        raise Misconfigured("venue hyperliquid: markets lists no market")
    if len({market.asset for market in markets.values()}) < len(markets):
        raise Misconfigured("venue hyperliquid: two markets have the same asset number")
    return markets


class Listing:
    """What Hyperliquid lists, kept for some minutes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rows: list[Any] = []
        self._until: datetime | None = None

    def check(self, market: Market, leverage: int = 1) -> None:
        """Raise Rejected (`market_differs`) where a market is not the configured one, or allows less leverage.

        Raises Retryable where the list cannot be read.
        """
        rows = self._read()
        row = rows[market.asset] if market.asset < len(rows) else {}
        told = (row.get("name"), row.get("szDecimals"), bool(row.get("isDelisted")))
        if told != (market.coin, market.sz_decimals, False):
            raise Rejected(
                f"market {market.asset} of Hyperliquid is {told[0]} with {told[1]} size decimals"
                f"{', delisted' if told[2] else ''}; configured is {market.coin} with {market.sz_decimals}",
                code=Reason.MARKET_DIFFERS,
            )
        if leverage > int(row.get("maxLeverage") or 1):
            raise Rejected(
                f"{market.coin} allows a leverage of {row.get('maxLeverage')} at Hyperliquid, not {leverage}",
                code=Reason.SIGNER_LEVERAGE,
            )

    def _read(self) -> list[Any]:
        now = clock.now()
        if self._until is None or now >= self._until:
            self._rows = self._client.info_object("meta", "universe")["universe"]
            self._until = now + META_FOR
        return self._rows
