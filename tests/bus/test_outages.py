"""Redis and Kafka stop and come back while events are written: nothing waits, nothing is lost, each is seen once."""

import threading
import time
from typing import Any

import pytest

from maxxit.bus import run
from maxxit.bus.models import EventCursor
from maxxit.bus.policy import BusPolicy, RelayStanza
from maxxit.embedded.servers import Redis
from tests.bus.kafka_broker import Broker
from tests.bus.test_kafka import TOPICS, broker, consumed, event_id, registry  # noqa: F401 (fixtures)
from tests.bus.test_redis_streams import entries, until
from tests.events.writers import another_connection, insert

pytestmark = pytest.mark.django_db(transaction=True)
LONGEST_WRITE = 5.0
"""Seconds: far more than a busy machine needs, far less than an outage."""


class Trading(threading.Thread):
    """Writes events as trading does, one transaction after another, and remembers how long each took."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ids: list[int] = []
        self.longest = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        with another_connection() as other:
            while not self.ended.wait(0.01):
                began = time.monotonic()
                for number in range(3):
                    self.ids.append(insert(other, subject=f"test.row/{number}"))
                other.commit()
                self.longest = max(self.longest, time.monotonic() - began)


def position(name: str) -> int:
    row = EventCursor.objects.filter(pk=name).first()
    return row.position if row else -1


@pytest.mark.limit(300)
def test_both_stop_in_turn_while_events_are_written(
    own_redis: Redis,
    broker: Broker,  # noqa: F811
    registry: Any,  # noqa: F811
) -> None:
    kafka = {
        "servers": broker.servers,
        "registry": "mock://registry",
        "topics": TOPICS,
        "timeout_seconds": 3.0,
    }
    rules = BusPolicy(
        relays=("redis", "kafka"),
        listeners=(),
        batch=100,
        idle_ms=20,
        stanzas={
            "redis": RelayStanza(adapter="redis", options={"url": own_redis.url}),
            "kafka": RelayStanza(adapter="kafka", options=kafka),
        },
        listener_stanzas={},
        attempts=3,
        attempt_seconds=1,
        retry_seconds=1,
    )
    stop, trading = threading.Event(), Trading()
    threads = run.workers(rules, stop)
    for thread in threads:
        thread.start()
    try:
        until(lambda: min(position("relay:redis"), position("relay:kafka")) >= 0, 60)
        trading.start()
        until(lambda: bool(trading.ids) and position("relay:redis") >= trading.ids[0], 60)
        own_redis.stop()
        reached = position("relay:kafka")
        until(lambda: position("relay:kafka") > reached + 100, 60)  # Kafka does not wait for Redis
        broker.freeze()
        until(lambda: "Kafka" in EventCursor.objects.get(pk="relay:kafka").last_error, 60)
        own_redis.start()
        reached = position("relay:redis")
        until(lambda: position("relay:redis") > reached + 100, 60)  # nor Redis for Kafka
        broker.thaw()
        trading.ended.set()
        trading.join(30)
        newest = trading.ids[-1]
        until(lambda: min(position("relay:redis"), position("relay:kafka")) == newest, 120)
    finally:
        trading.ended.set()
        stop.set()
        broker.thaw()
        for thread in threads:
            thread.join(20)

    in_redis, in_kafka = entries(own_redis), [event_id(one) for one in consumed(broker, len(trading.ids))]
    assert sorted(set(in_redis)) == sorted(set(in_kafka)) == trading.ids
    assert list(dict.fromkeys(in_redis)) == trading.ids  # and in order, once repeats are left out
    assert trading.longest < LONGEST_WRITE
