"""Coinbase feed: public market data of Advanced Trade, last trade with bid and ask, and candles.

A trade gives the same tick here and on the WebSocket (`maxxit.market.stream.coinbase`): both use `tick_of`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from maxxit.core.errors import Rejected
from maxxit.market.feeds import wire
from maxxit.market.feeds.bars import BAR, Bar
from maxxit.market.feeds.base import Page, Tick

log = structlog.get_logger(__name__)

MARKET = "api/v3/brokerage/market/products"
PAGE = 300
"""Candles per request; the documented maximum is 350."""


def tick_of(symbol: str, source: str, price: Any, at: Any, bid: Any, ask: Any) -> Tick:
    """Return a Coinbase trade as a tick; its confidence is half of the spread."""
    unsure = wire.spread(wire.number(bid), wire.number(ask))
    return Tick(symbol, wire.number(price), wire.moment(at), source, unsure)


class Coinbase:
    """`ids`: symbol -> product, for example BTC-USD."""

    def __init__(self, *, name: str, base_url: str, ids: Mapping[str, str], timeout: float = 10.0) -> None:
        self.name, self.ids = name, dict(ids)
        self.http = wire.api_client(name, base_url, timeout=float(timeout))

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Read the last trade of each product, one request each: no other public endpoint states its time."""
        wanted = [symbol for symbol in symbols if symbol in self.ids]
        ticks = wire.each(self.name, self._answers(wanted), self._last)
        found = {tick.symbol: tick for tick in ticks if tick}
        wire.name_missing(self.name, wanted, found)
        return found

    def _answers(self, symbols: Sequence[str]) -> list[tuple[str, Any]]:
        """Return the answer for each product, without those that the exchange refuses."""
        found = []
        for symbol in symbols:
            path = f"{MARKET}/{self.ids[symbol]}/ticker"
            try:
                found.append((symbol, wire.ask(self.http, "GET", path, params={"limit": 1})))
            except Rejected as error:  # a delisted product must not fail the others
                log.warning("product_refused", feed=self.name, symbol=symbol, error=str(error))
        return found

    def _last(self, given: tuple[str, Any]) -> Tick | None:
        symbol, answer = given
        trades = answer["trades"]
        if not trades:
            return None
        bid, ask = answer["best_bid"], answer["best_ask"]
        return tick_of(symbol, self.name, trades[0]["price"], trades[0]["time"], bid, ask)

    def candles(self, symbol: str, start: datetime, end: datetime) -> Iterator[Page]:
        """Yield pages of 300 bars; the exchange omits bars without trades."""
        if symbol not in self.ids:
            raise Rejected(f"{self.name} has no product for {symbol}", code="unknown_symbol")
        while start < end:
            until = min(start + PAGE * BAR, end)
            asked = {
                "start": str(int(start.timestamp())),
                "end": str(int(until.timestamp()) - 1),
                "granularity": "FIVE_MINUTE",
                "limit": PAGE,
            }
            answer = wire.ask(self.http, "GET", f"{MARKET}/{self.ids[symbol]}/candles", params=asked)
            with wire.shaped(self.name):
                rows = list(answer["candles"])
            bars = wire.each(self.name, rows, _bar)
            yield until, sorted((bar for bar in bars if start <= bar.open_time < until), key=_opened)
            start = until


def _opened(bar: Bar) -> datetime:
    return bar.open_time


def _bar(said: Mapping[str, Any]) -> Bar:
    prices = [wire.number(said[key]) for key in ("open", "high", "low", "close", "volume")]
    bar = Bar(wire.moment(said["start"]), *prices)
    if not bar.whole:
        raise ValueError(f"no bar: {dict(said)}")
    return bar
