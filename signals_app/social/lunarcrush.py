"""Social metrics by LunarCrush's API v4: one request for all coins (https://lunarcrush.com/developers/api).

    social: {source: {adapter: lunarcrush, key_env: LUNARCRUSH_API_KEY}}

Written after public descriptions of the answer of /public/coins/list/v1; no request was made to the real service.
"""

from collections.abc import Collection
from decimal import Decimal
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, Field, ValidationError

from maxxit.core import http, redact, untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Retryable
from signals_app.social.base import SocialReading

log = structlog.get_logger(__name__)
API, PATH = "https://lunarcrush.com/api4", "/public/coins/list/v1"
LIMIT = 1000
"""Coins of one answer, the best rank first."""


class _Coin(BaseModel):
    symbol: str = Field(min_length=1, max_length=20)
    galaxy_score: Annotated[Decimal, Field(ge=0, le=100)]
    sentiment: Annotated[Decimal, Field(ge=0, le=100)]
    social_volume_24h: Annotated[int, Field(ge=0, lt=2**31)]
    percent_change_24h: Annotated[Decimal, Field(ge=-100, le=100_000)]
    alt_rank: Annotated[int, Field(ge=1, lt=2**31)]


class LunarCrush:
    """Reads the metrics of every coin at once."""

    def __init__(self, *, key_env: str = "LUNARCRUSH_API_KEY", base_url: str = "") -> None:
        if not (key := variable(key_env)):
            raise Misconfigured(
                f"social metrics: set {key_env}, or remove `social.source` from config/signals.yaml"
            )
        redact.know(key)
        self._http = http.client(base_url or API, headers={"authorization": f"Bearer {key}"})

    def readings(self, symbols: Collection[str]) -> list[SocialReading]:
        """Return the metrics of `symbols`; of two coins with one symbol that of the better rank."""
        query: dict[str, Any] = {"sort": "market_cap_rank", "limit": LIMIT}
        answer = http.fetch(self._http, "GET", PATH, params=query)
        try:
            body = untrusted.loads(answer.content, decimals=True)
        except ValueError as error:
            raise Retryable(f"LunarCrush: the answer is not JSON: {error}") from None
        items = body.get("data") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise Retryable("LunarCrush: the answer has no list `data`")
        found: dict[str, SocialReading] = {}
        for item in items:
            symbol = str(item.get("symbol", "")).upper() if isinstance(item, dict) else ""
            if symbol in symbols and symbol not in found and (reading := _reading(symbol, item)):
                found[symbol] = reading
        return list(found.values())


def _reading(symbol: str, item: dict[str, Any]) -> SocialReading | None:
    try:
        coin = _Coin.model_validate(item)
    except ValidationError as error:
        log.warning("social_metrics_invalid", symbol=symbol, error=redact.text(str(error))[:300])
        return None
    return SocialReading(
        symbol,
        coin.galaxy_score,
        coin.sentiment,
        coin.social_volume_24h,
        coin.percent_change_24h,
        coin.alt_rank,
    )
