"""How fast the event log is relayed, beside the bare reading of it.

    python -m tests.bench.relay [--events 1000000] [--only redis|file|kafka]

Fills the event log of a database of its own with events of orders, and relays all of them through the
product's own relay: to a Redis, to a file with a hash chain, and to librdkafka's mock cluster. Counts what arrived:
an event that is missing fails the run. Target: 20,000 events a second.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxxit.embedded.servers import Postgres, Redis

TARGET = 20_000
ORDERS = 2_000
FILL = """
INSERT INTO events (at, name, subject, correlation_id, data)
SELECT now() + n * interval '1 millisecond',
       (ARRAY['order.planned', 'order.sending', 'order.accepted', 'execution.completed', 'order.canceled',
              'order.partially_filled', 'order.expired', 'execution.blocked'])[1 + n %% 8],
       'trading.order/' || (%(first)s + n / 8 %% %(orders)s),
       md5((n / 8)::text)::uuid,
       jsonb_build_object('old', 'planned', 'why', 'bench', 'measured', n::text, 'limit', '10000')
FROM generate_series(1, %(events)s) AS n
"""


def measured(what: str, events: int, work: Callable[[], object]) -> None:
    """Run it and print its rate beside the target."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{what:<34}{events / took:>10,.0f} events/s   {took:6.1f} s, of which {used:.1f} s CPU of this process"
        f" (target {TARGET:,})",
        flush=True,
    )


def fill(events: int) -> None:
    """Write orders and the events that name them."""
    from django.db import connection

    from tests import builders as make

    deployment = make.deployment(make.agent())
    with connection.cursor() as cursor:
        pattern = make.order(deployment)
        columns = "deployment_id, symbol, venue, account, position_side, side, purpose, correlation_id"
        columns += ", created_at, updated_at"
        cursor.execute(
            f"INSERT INTO orders (idempotency_key, {columns}) SELECT 'bench:' || n, {columns} "
            "FROM orders, generate_series(1, %s) AS n WHERE id = %s",
            [ORDERS, pattern.pk],
        )
        cursor.execute("SELECT min(id) FROM orders WHERE idempotency_key LIKE 'bench:%'")
        [first] = cursor.fetchone()
        cursor.execute(FILL, {"events": events, "orders": ORDERS, "first": first})
        cursor.execute("ANALYZE")


def relayed(adapter: Any, events: int, batch: int) -> Callable[[], None]:
    """Return the work of one relay: everything from the first event on."""
    from maxxit.bus.cursors import cursor_of
    from maxxit.bus.run import RelayWork
    from maxxit.events import log

    def work() -> None:
        name = f"relay:{type(adapter).__name__}"
        relay = RelayWork(name, adapter, log.FinalId(every=0.2), batch)
        cursor_of(name, 0)
        while relay.step():
            pass
        newest = log.settled()
        assert cursor_of(name, 0).position == newest, "the relay stopped before the end"
        relay.close()

    return work


def to_redis(home: Path, events: int) -> None:
    """Redis Streams that keep everything; every event must be there once."""
    import redis

    from maxxit.bus.relays.redis_streams import RedisStreams

    server = Redis(home, ephemeral=True)
    server.start()
    try:
        measured(
            "Redis Streams", events, relayed(RedisStreams(url=server.url, keep=10 * events), events, 1000)
        )
        with redis.Redis.from_url(server.url) as bus:
            assert bus.xlen("maxxit:bus:events") >= events
            print(
                f"{'':34}{bus.xlen('maxxit:bus:events'):>10,} events, {bus.xlen('maxxit:bus:updates'):,} updates"
            )
    finally:
        server.stop()


def to_file(home: Path, events: int) -> None:
    """JSON lines; the file must verify, with every event."""
    from maxxit.bus.relays.jsonl import JsonLines
    from maxxit.events.hash_chain import Verified, verify

    path = home / "events.jsonl"
    measured(
        "JSON lines, on disk",
        events,
        relayed(JsonLines(path=str(path), cursor="relay:JsonLines"), events, 5000),
    )
    state = Verified()

    def check() -> None:
        nonlocal state
        with path.open("rb") as file:
            for state, _ in verify(file):  # noqa: B007 (the last one counts)
                pass

    measured("verify of that file", events, check)
    assert state.events >= events
    path.unlink()


def to_kafka(home: Path, events: int) -> None:
    """librdkafka's mock cluster in another process; every message is acknowledged."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    from maxxit.bus.relays.kafka import Kafka
    from tests.bus.kafka_broker import Broker

    broker = Broker()
    SchemaRegistryClient.new_client({"url": "mock://bench"})
    topics = {"events": "maxxit.events", "updates": "maxxit.updates"}
    try:
        relay = Kafka(servers=broker.servers, registry="mock://bench", topics=topics)
        measured("Kafka (mock broker), Avro", events, relayed(relay, events, 5000))
    finally:
        broker.stop()


def bare(events: int) -> None:
    """Read the log in the relays' batches, and do nothing with it."""
    from maxxit.events import log

    position = 0
    while found := log.read(position, 2**62, 5_000):
        position = found[-1].id


def run(events: int, only: str) -> None:
    """Fill the log, then measure."""
    began = time.perf_counter()
    fill(events)
    print(f"{events:,} events written in {time.perf_counter() - began:.1f} s", flush=True)
    home = Path(tempfile.mkdtemp(prefix="maxxit-bench-"))
    home.chmod(0o711)
    measured("reading the log alone", events, lambda: bare(events))
    for name, part in (("redis", to_redis), ("file", to_file), ("kafka", to_kafka)):
        if only in ("", name):
            part(home, events)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("redis", "file", "kafka"), default="")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="maxxit-bench-"))
    home.chmod(0o711)
    postgres, redis = Postgres(home, ephemeral=True), Redis(home, ephemeral=True)
    postgres.start()
    redis.start()
    os.environ |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "MAXXIT_DATA_DIR": str(home)}
    os.environ |= {"MAXXIT_ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "maxxit.settings"}
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        run(options.events, options.only)
    finally:
        redis.stop()
        postgres.stop()


if __name__ == "__main__":
    main()
