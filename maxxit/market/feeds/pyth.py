"""Pyth: the latest price and its confidence interval, from a Hermes server (`/v2/updates/price/latest`)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from maxxit.market.feeds import wire
from maxxit.market.feeds.base import Tick


class Pyth:
    """`ids`: symbol -> price feed id, 64 hex digits. Since August 2026 Hermes wants a key (`key_env`)."""

    def __init__(
        self, *, name: str, base_url: str, ids: Mapping[str, str], key_env: str = "", timeout: float = 10.0
    ) -> None:
        self.name = name
        self.ids = {symbol: _plain(one) for symbol, one in ids.items()}
        self.http = wire.api_client(
            name, base_url, key_env=key_env, key_header="authorization", timeout=float(timeout)
        )

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """One request for all of them."""
        wanted = {self.ids[symbol]: symbol for symbol in symbols if symbol in self.ids}
        if not wanted:
            return {}
        asked: dict[str, Any] = {
            "ids[]": list(wanted),
            "parsed": "true",
            "ignore_invalid_price_ids": "true",  # else one retired id is a 404 for all of them
        }
        answer = wire.ask(self.http, "GET", "v2/updates/price/latest", params=asked)
        with wire.shaped(self.name):
            parsed = list(answer["parsed"])
        ticks = wire.each(
            self.name, parsed, lambda said: self._tick(wanted.get(_plain(said["id"]), ""), said["price"])
        )
        return {tick.symbol: tick for tick in ticks if tick.symbol}

    def _tick(self, symbol: str, said: Mapping[str, Any]) -> Tick:
        """Integers times a power of ten: exact."""
        price, unsure = (_scaled(said[key], said["expo"]) for key in ("price", "conf"))
        return Tick(symbol, price, wire.moment(said["publish_time"]), self.name, unsure)


def _plain(feed_id: str) -> str:
    return feed_id.lower().removeprefix("0x")


def _scaled(digits: Any, exponent: Any) -> Decimal:
    value = wire.number(digits)
    return value.scaleb(int(exponent)) if value.is_finite() else value
