"""Encode and decode ticks as JSON for the Redis stream; the format does not depend on the source.

    {"v": 1, "type": "tick", "symbol": "BTC", "price": "64000.5", "at": "2026-03-02T12:00:00.123456+00:00",
     "source": "coinbase", "confidence": "0.5"}

Prices are decimal strings in USD. A reader rejects an unknown version. A new field does not change the version; a new
meaning of an existing field does.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, TypedDict

from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.market.feeds.base import Tick

VERSION = 1
STREAM = "maxxit:ticks"
"""The Redis stream; each entry has a single field `tick`."""


class TickEvent(TypedDict):
    """The parsed JSON."""

    v: Literal[1]
    type: Literal["tick"]
    symbol: str
    price: str
    at: str
    source: str
    confidence: str | None


def event(tick: Tick) -> TickEvent:
    """Return the tick as published."""
    return {
        "v": 1,
        "type": "tick",
        "symbol": tick.symbol,
        "price": plain(tick.price),
        "at": tick.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "source": tick.source,
        "confidence": None if tick.confidence is None else plain(tick.confidence),
    }


def encode(tick: Tick) -> str:
    """Return the tick as JSON."""
    return json.dumps(event(tick))


def decode(text: str | bytes) -> Tick:
    """Parse the output of `encode`. Raises Rejected for any other text or version."""
    try:
        said = json.loads(text)
        if (said["v"], said["type"]) != (VERSION, "tick"):
            raise Rejected(f"tick version {said['v']!r} is not {VERSION}", code="unknown_version")
        unsure = None if said.get("confidence") is None else Decimal(said["confidence"])
        at = datetime.fromisoformat(said["at"])
        return Tick(str(said["symbol"]), Decimal(said["price"]), at, str(said["source"]), unsure)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise Rejected(f"not a tick: {str(text)[:80]!r} ({error})", code="not_a_tick") from error
