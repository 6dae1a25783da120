"""The relays: one module for each kind of other system. A new one is a module and a line here."""

from maxxit.bus.relays.base import Relay
from maxxit.core.registry import Registry

RELAYS: Registry[Relay] = Registry(
    "relay",
    {
        "redis": "maxxit.bus.relays.redis_streams.RedisStreams",
        "jsonl": "maxxit.bus.relays.jsonl.JsonLines",
        "kafka": "maxxit.bus.relays.kafka.Kafka",
    },
)
