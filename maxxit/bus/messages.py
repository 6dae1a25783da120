"""What other systems receive: our events, and the updates that are derived from them, in one envelope.

    {"event_id": "812", "name": "execution.completed", "ts": "2026-03-02T12:00:00.123456Z", "source": "maxxit",
     "schema_version": 1, "subject": "trading.order/17", "correlation_id": "…", "symbol": "ETH",
     "idempotency_key": "ETH:2026-03-02T12:00:00.123456Z:execution.completed", "data": {…}}

Amounts are decimal strings. A message may arrive twice, always with the same `event_id`. A new field does not change
the schema version; a new meaning of a field does.
"""

from datetime import datetime
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Literal, NamedTuple

from maxxit.core.clock import utc

SOURCE, SCHEMA_VERSION = "maxxit", 1
Topic = Literal["events", "updates", "ticker"]
TOPICS: tuple[Topic, ...] = ("events", "updates", "ticker")
"""Our events · updates derived from them · prices."""


class Message(NamedTuple):
    """One message for other systems."""

    topic: Topic
    event_id: str
    name: str
    at: datetime
    subject: str
    correlation_id: str
    """Empty for none."""
    symbol: str
    """Empty for none."""
    data: str
    """JSON."""

    @property
    def ts(self) -> str:
        """The time in UTC, with microseconds."""
        return utc(self.at).isoformat(timespec="microseconds").replace("+00:00", "Z")

    @property
    def mark(self) -> str:
        """What tells the event from another one under the same id: a restored database assigns ids again."""
        text = "\0".join((self.event_id, self.ts, self.name, self.subject, self.correlation_id))
        return sha256(text.encode()).hexdigest()[:32]

    @property
    def key(self) -> str:
        """What keeps its order: the correlation id, or what the message is about."""
        return self.correlation_id or self.subject

    @property
    def idempotency_key(self) -> str:
        """Symbol (or subject), time and stage."""
        return f"{self.symbol or self.subject}:{self.ts}:{self.name}"

    def as_json(self) -> str:
        """Return the envelope."""
        corr = f'"{self.correlation_id}"' if self.correlation_id else "null"
        symbol = quoted(self.symbol) if self.symbol else "null"
        name, subject, ts = quoted(self.name), quoted(self.subject), self.ts
        key = quoted(f"{self.symbol or self.subject}:{ts}:{self.name}")
        return (
            f'{{"event_id":"{self.event_id}","name":{name},"ts":"{ts}","source":"{SOURCE}",'
            f'"schema_version":{SCHEMA_VERSION},"subject":{subject},"correlation_id":{corr},"symbol":{symbol},'
            f'"idempotency_key":{key},"data":{self.data}}}'
        )
