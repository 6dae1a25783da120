"""Pyth feed: latest prices with confidence intervals from a Hermes server (`/v2/updates/price/latest`)."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import structlog

from maxxit.core.errors import Rejected
from maxxit.market.feeds import wire
from maxxit.market.feeds.base import Tick

log = structlog.get_logger(__name__)
OF_ONE_ID = frozenset({"http_400", "http_403", "http_404"})
"""Error codes of a whole request that a single id may have caused."""


class Pyth:
    """`ids`: symbol -> price feed id, 64 hex digits. Since August 2026 Hermes requires a key (`key_env`)."""

    def __init__(
        self, *, name: str, base_url: str, ids: Mapping[str, str], key_env: str = "", timeout: float = 10.0
    ) -> None:
        self.name = name
        self.ids = {symbol: _plain(one) for symbol, one in ids.items()}
        self.http = wire.api_client(
            name, base_url, key_env=key_env, key_header="authorization", timeout=float(timeout)
        )

    def quotes(self, symbols: Sequence[str]) -> dict[str, Tick]:
        """Read all prices in one request; in several if the server refuses some of the ids."""
        wanted = {self.ids[symbol]: symbol for symbol in symbols if symbol in self.ids}
        if not wanted:
            return {}
        ticks = wire.each(
            self.name,
            self._parsed(list(wanted)),
            lambda said: self._tick(wanted.get(_plain(said["id"]), ""), said["price"]),
        )
        found = {tick.symbol: tick for tick in ticks if tick.symbol}
        wire.name_missing(self.name, wanted.values(), found)
        return found

    def _parsed(self, ids: list[str]) -> list[Any]:
        """Return the prices of `ids` as received; a request that is refused for one of its ids is retried in halves.

        Hermes ignores unknown ids. It answers 400 for a malformed id, and 403 for one that the key may not read, each
        for the whole request. Raises Rejected if it refuses every id.
        """
        asked = {"ids[]": ids, "parsed": "true", "ignore_invalid_price_ids": "true"}
        try:
            answer = wire.ask(self.http, "GET", "v2/updates/price/latest", params=asked)
        except Rejected as error:
            if len(ids) == 1 or error.code not in OF_ONE_ID:
                raise
            log.warning("request_refused", feed=self.name, ids=len(ids), error=str(error))
            return self._halves(ids)
        with wire.shaped(self.name):
            return list(answer["parsed"])

    def _halves(self, ids: list[str]) -> list[Any]:
        middle = len(ids) // 2
        found: list[Any] = []
        refused: list[Rejected] = []
        for half in (ids[:middle], ids[middle:]):
            try:
                found += self._parsed(half)
            except Rejected as error:
                refused.append(error)
        if len(refused) == 2:
            raise refused[0]
        return found

    def _tick(self, symbol: str, said: Mapping[str, Any]) -> Tick:
        """Convert an answer to a tick; prices are integers times a power of ten, so this is exact."""
        price, unsure = (_scaled(said[key], said["expo"]) for key in ("price", "conf"))
        return Tick(symbol, price, wire.moment(said["publish_time"]), self.name, unsure)


def _plain(feed_id: str) -> str:
    return feed_id.lower().removeprefix("0x")


def _scaled(digits: Any, exponent: Any) -> Decimal:
    value = wire.number(digits)
    return value.scaleb(int(exponent)) if value.is_finite() else value
