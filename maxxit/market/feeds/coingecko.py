"""CoinGecko feed: `/simple/price`, and the last day's points as five-minute bars.

Its prices are up to a minute old by design: suited to validate other sources, slow as the only one.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any

from maxxit.core.clock import bucket
from maxxit.core.errors import Rejected
from maxxit.market.feeds import wire
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.base import Page, Tick

PAGE = timedelta(days=1)
"""Span per request; longer ranges have hourly points."""
SPARSE = timedelta(minutes=20)


class CoinGecko:
    """`ids`: symbol -> CoinGecko's id of the coin. Options as `wire.api_client` takes them."""

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        ids: Mapping[str, str],
        key_env: str = "",
        key_header: str = "x-cg-demo-api-key",
        timeout: float = 10.0,
    ) -> None:
        self.name, self.ids = name, dict(ids)
        self.http = wire.api_client(
            name, base_url, key_env=key_env, key_header=key_header, timeout=float(timeout)
        )

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Read all prices in one request."""
        wanted = {symbol: self.ids[symbol] for symbol in symbols if symbol in self.ids}
        if not wanted:
            return {}
        asked = {
            "ids": ",".join(sorted(set(wanted.values()))),
            "vs_currencies": "usd",
            "include_last_updated_at": "true",
            "precision": "full",
        }
        answer = wire.ask(self.http, "GET", "simple/price", params=asked)
        with wire.shaped(self.name):
            known = [(symbol, said) for symbol, coin in wanted.items() if (said := answer.get(coin))]
        wire.name_missing(self.name, wanted, [symbol for symbol, _ in known])
        return {tick.symbol: tick for tick in wire.each(self.name, known, self._tick)}

    def _tick(self, known: tuple[str, Mapping[str, Any]]) -> Tick:
        symbol, said = known
        return Tick(symbol, wire.number(said.get("usd")), wire.moment(said["last_updated_at"]), self.name)

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """Yield bars built from five-minute points, without volume. Raises Rejected beyond the last day."""
        if symbol not in self.ids:
            raise Rejected(f"{self.name} has no id for {symbol}", code="unknown_symbol")
        while start < end:
            until = min(start + PAGE, end)
            asked = {"vs_currency": "usd", "from": int(start.timestamp()), "to": int(until.timestamp())}
            answer = wire.ask(self.http, "GET", f"coins/{self.ids[symbol]}/market_chart/range", params=asked)
            with wire.shaped(self.name):
                rows = list(answer["prices"])
            points = wire.each(self.name, rows, _point)
            yield until, _bars([point for point in points if start <= point[0] < until])
            start = until


def _point(said: Sequence[Any]) -> tuple[datetime, Decimal]:
    """Parse [milliseconds, price] into (time, USD)."""
    price = wire.number(said[1])
    if not price.is_finite() or price <= 0:
        raise ValueError(f"no price: {said[1]!r}")
    return datetime.fromtimestamp(int(said[0]) / 1000, UTC), price


def _bars(points: list[tuple[datetime, Decimal]]) -> list[Bar]:
    """Group points into bars. Raises Rejected when they are too far apart for five-minute points."""
    if len(points) > 2 and min(later - sooner for (sooner, _), (later, _) in pairwise(points)) > SPARSE:
        raise Rejected(
            "CoinGecko has only hourly points for that time: backfill from another feed", code="too_sparse"
        )
    bars = []
    for opened, group in groupby(points, key=lambda point: bucket(point[0], BAR)):
        prices = [price for _, price in group]
        bars.append(Bar(opened, prices[0], max(prices), min(prices), prices[-1], Decimal(0)))
    return bars
