"""Kafka: librdkafka's mock cluster is the broker, Confluent's consumer reads, Apache Avro's own checker compares."""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from maxxit.bus import run
from maxxit.bus.messages import Message
from maxxit.bus.models import EventCursor
from maxxit.bus.relays.kafka import SCHEMAS, Kafka, newest_schema
from maxxit.core.errors import Misconfigured, Retryable
from maxxit.events import log
from tests.builders import T0
from tests.bus.kafka_broker import Broker
from tests.bus.test_redis_streams import step_all, until, write
from tests.events.writers import another_connection, insert

PUBLISHED = {"message.v1.avsc": "de100501081e91b68c7a43a90018c79dce6dfe6b2d5db1450ff8a9c75723ee3b"}
"""Schemas that consumers may have: a change is a new file."""
TOPICS = {"events": "maxxit.events"}


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.thaw()
    running.stop()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Confluent's mock registry, one for everybody: each `mock://` client has a store of its own otherwise."""
    client = SchemaRegistryClient.new_client({"url": "mock://registry"})
    monkeypatch.setattr(SchemaRegistryClient, "new_client", lambda options: client)
    return client


def relay(broker: Broker, **options: Any) -> Kafka:
    return Kafka(
        servers=broker.servers,
        registry="mock://registry",
        topics=TOPICS,
        **{"timeout_seconds": 4.0, **options},
    )


def work(broker: Broker, **options: Any) -> run.RelayWork:
    return run.RelayWork("relay:kafka", relay(broker, **options), log.FinalId(), 20)


def consumed(broker: Broker, number: int, topic: str = "maxxit.events", seconds: float = 40) -> list[Any]:
    """The messages of a topic, read until there are `number` different ones."""
    consumer = Consumer(
        {"bootstrap.servers": broker.servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: list[Any] = []
    end = time.monotonic() + seconds
    while len({event_id(one) for one in found}) < number and time.monotonic() < end:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            found.append(message)
    consumer.close()
    return found


def event_id(message: Any) -> int:
    return int(dict(message.headers())["event_id"])


def value(registry: Any, message: Any) -> Any:
    read = AvroDeserializer(registry)
    return read(message.value(), SerializationContext(message.topic(), MessageField.VALUE))


@pytest.mark.django_db(transaction=True)
def test_confluents_deserializer_reads_every_event(broker: Broker, registry: Any) -> None:
    one = work(broker)
    step_all(one)
    ids = write(30)
    step_all(one)
    one.close()
    found = consumed(broker, 30)
    read = [value(registry, message) for message in found]

    assert sorted(map(event_id, found)) == ids
    assert {entry["name"] for entry in read} == {"test.written"}
    assert [int(entry["event_id"]) for entry in read] == list(map(event_id, found))
    assert {message.key() for message in found} == {b"test.row/1"}
    assert read[0]["ts"].tzinfo is not None
    assert read[0]["idempotency_key"].endswith(":test.written")


@pytest.mark.limit(240)
@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_for_a_while_loses_nothing_and_keeps_the_order_of_each_key(
    broker: Broker, registry: Any
) -> None:
    stop = threading.Event()
    thread = run.Worker("relay:kafka", lambda: work(broker), stop, idle=0.02, longest_wait=1.0)
    thread.start()
    try:
        until(lambda: EventCursor.objects.filter(pk="relay:kafka").exists())
        with another_connection() as other:
            ids = [insert(other, subject=f"test.row/{number % 7}") for number in range(60)]
            other.commit()
            until(lambda: EventCursor.objects.get(pk="relay:kafka").position == ids[-1])
            broker.freeze()
            began = time.monotonic()
            for number in range(60):
                ids.append(insert(other, subject=f"test.row/{number % 7}"))
                other.commit()
            wrote = time.monotonic() - began
            until(lambda: "Kafka" in EventCursor.objects.get(pk="relay:kafka").last_error)
            broker.thaw()
            until(lambda: EventCursor.objects.get(pk="relay:kafka").position == ids[-1], 90)
    finally:
        stop.set()
        thread.join(20)
    found = consumed(broker, 120)
    by_key: dict[bytes, list[int]] = {}
    for message in found:
        by_key.setdefault(message.key(), []).append(event_id(message))

    assert {event_id(one) for one in found} == set(ids)
    for order in by_key.values():
        first_seen = list(dict.fromkeys(order))
        assert first_seen == sorted(first_seen)
    assert wrote < 30  # while the broker was frozen


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_does_not_answer_is_retryable_and_moves_nothing(broker: Broker, registry: Any) -> None:
    one = work(broker, timeout_seconds=1.5)
    step_all(one)
    ids = write(3)
    broker.freeze()
    with pytest.raises(Retryable, match="Kafka"):
        one.step()
    assert EventCursor.objects.get(pk="relay:kafka").position < ids[0]
    broker.thaw()
    step_all(one)
    one.close()
    assert EventCursor.objects.get(pk="relay:kafka").position == ids[-1]


@pytest.mark.django_db(transaction=True)
def test_a_message_that_is_too_large_costs_only_itself(broker: Broker, registry: Any) -> None:
    one = work(broker, settings={"message.max.bytes": 2000})
    step_all(one)
    first = write(2)
    with another_connection() as other:
        other.execute(
            "INSERT INTO events (at, name, subject, data) VALUES (now(), 'test.large', 'test.row/1', %s)",
            [json.dumps({"text": "x" * 5_000})],
        )
        other.commit()
    second = write(2)
    step_all(one)
    one.close()

    assert {event_id(message) for message in consumed(broker, 4)} == {*first, *second}
    cursor = EventCursor.objects.get(pk="relay:kafka")
    assert (cursor.position, cursor.refused) == (second[-1], 1)


def test_a_schema_registry_that_is_away_is_retryable() -> None:
    one = Kafka(servers="127.0.0.1:9", registry="http://127.0.0.1:9", topics=TOPICS, timeout_seconds=1)
    message = Message("events", "1", "test.written", T0, "test.row/1", "", "", "{}")
    with pytest.raises(Retryable, match="schema registry"):
        one.publish([message])


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(Misconfigured, match=r"requirements-kafka\.txt"):
        Kafka(servers="x", registry="y", topics=TOPICS)


def test_settings_cannot_weaken_what_is_promised() -> None:
    with pytest.raises(Misconfigured, match=r"remove acks, enable\.idempotence"):
        Kafka(servers="x", registry="y", topics=TOPICS, settings={"acks": "1", "enable.idempotence": False})
    with pytest.raises(Misconfigured, match="known: events, updates, ticker"):
        Kafka(servers="x", registry="y", topics={"prices": "t"})


# -- the schemas


def incompatible(reader: str, writer: str) -> bool:
    checker: Any = ReaderWriterCompatibilityChecker  # it carries no types
    found = checker().get_compatibility(parse(reader), parse(writer))
    return bool(found.compatibility != SchemaCompatibilityType.compatible)


def test_a_published_schema_is_never_changed() -> None:
    for name, digest in PUBLISHED.items():
        assert hashlib.sha256((SCHEMAS / name).read_bytes()).hexdigest() == digest, (
            f"add a new version of {name}"
        )
    assert {path.name for path in SCHEMAS.glob("*.avsc")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_newest_schema_reads_what_every_earlier_one_wrote(name: str) -> None:
    assert not incompatible(newest_schema(), (SCHEMAS / name).read_text())
    fastavro.parse_schema(json.loads((SCHEMAS / name).read_text()))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "added", "type": "string"},
        {"name": "added", "type": "int"},
    ],
)
def test_the_check_refuses_a_field_without_a_default(change: dict[str, Any]) -> None:
    schema = json.loads(newest_schema())
    schema["fields"].append(change)
    assert incompatible(json.dumps(schema), newest_schema())
    change = {**change, "default": "" if change["type"] == "string" else 0}
    schema["fields"][-1] = change
    assert not incompatible(json.dumps(schema), newest_schema())
