"""Listeners: at least once, in order for each key, dead letters after three attempts; of three sources."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from confluent_kafka import Producer
from django.db import DataError, OperationalError

from maxxit.bus import run
from maxxit.bus.listeners.base import Inbound, Listener, inbound
from maxxit.bus.listeners.sources import EventLog, KafkaTopic, RedisStream
from maxxit.bus.listeners.work import ListenerWork, redrive
from maxxit.bus.models import EventCursor, ListenerMessage
from maxxit.core.errors import Rejected, Retryable
from maxxit.embedded.servers import Redis
from maxxit.events import log
from tests.builders import RecordedClock
from tests.bus.kafka_broker import Broker
from tests.bus.test_kafka import TOPICS, broker, registry, relay  # noqa: F401 (fixtures)
from tests.bus.test_redis_streams import until, write
from tests.fakes import statement_timeout

SOON = {"session.timeout.ms": 6000}
"""The broker of the tests keeps a consumer that left in its group until this has passed; by default 45 seconds."""


@dataclass
class Memory:
    """A source in memory: what was not marked as done is read again."""

    messages: list[Inbound]
    position: int = 0
    read_to: int = 0

    def read(self, most: int) -> Sequence[Inbound]:
        found = self.messages[self.position : self.position + most]
        self.read_to = self.position + len(found)
        return found

    def done(self) -> None:
        self.position = self.read_to

    def close(self) -> None:
        pass


@dataclass
class Hears:
    """A listener that fails on the event ids of `failing`."""

    failing: dict[str, Exception] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)

    def __call__(self, message: Inbound) -> None:
        self.attempts.append(message.event_id)
        if message.event_id in self.failing:
            raise self.failing[message.event_id]
        self.heard.append(message.event_id)


def message(ident: str, key: str = "", name: str = "order.planned") -> Inbound:
    return Inbound(ident, name, key or ident, {"event_id": ident})


def listening(handle: Listener, source: Any, **options: Any) -> ListenerWork:
    return ListenerWork("listener:test", handle, source, **options)


@pytest.fixture
def fails() -> dict[str, Exception]:
    return {"a1": ValueError("not today")}


def test_a_failed_message_holds_up_its_own_key_only(
    db: None, time: RecordedClock, fails: dict[str, Exception]
) -> None:
    hears = Hears(fails)
    source = Memory([message("a1", "a"), message("b1", "b"), message("a2", "a"), message("b2", "b")])
    work = listening(hears, source)
    work.step()
    assert hears.heard == ["b1", "b2"]

    work.step()  # not due yet
    assert hears.attempts == ["a1", "b1", "b2"]
    del fails["a1"]
    time.move(seconds=10)
    work.step()
    assert hears.heard == ["b1", "b2", "a1", "a2"]
    assert not ListenerMessage.objects.exists()


def test_after_three_attempts_it_is_a_dead_letter_and_its_key_goes_on(
    db: None, time: RecordedClock, fails: dict[str, Exception]
) -> None:
    hears = Hears(fails)
    source = Memory([message("a1", "a"), message("a2", "a")])
    work = listening(hears, source)
    for _ in range(5):
        work.step()
        time.move(seconds=10)

    assert hears.attempts.count("a1") == 3
    assert hears.heard == ["a2"]
    row = ListenerMessage.objects.get()
    assert (row.event_id, row.attempts) == ("a1", 3)
    assert row.dead_at is not None
    assert "not today" in row.last_error
    del fails["a1"]
    assert redrive([row.pk]) == 1
    work.step()
    assert hears.heard == ["a2", "a1"]


def test_what_is_refused_for_good_is_a_dead_letter_at_once(db: None, time: RecordedClock) -> None:
    hears = Hears({"a1": Rejected("never")})
    listening(hears, Memory([message("a1"), Inbound("x", "", "x", {}, "no JSON")])).step()

    assert {row.event_id: row.dead_at is not None for row in ListenerMessage.objects.all()} == {
        "a1": True,
        "x": True,
    }
    assert hears.attempts == ["a1"]


def test_a_batch_that_a_crash_repeats_is_not_parked_twice(
    db: None, time: RecordedClock, fails: dict[str, Exception]
) -> None:
    hears, source = Hears(fails), Memory([message("a1", "a"), message("b1", "b")])
    listening(hears, source).step()
    source.position = 0
    listening(hears, source).step()

    assert hears.attempts == ["a1", "b1", "b1"]  # at least once: what was handled is handled again
    assert ListenerMessage.objects.count() == 1


def test_one_key_with_many_failures_starves_no_other(
    db: None, time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maxxit.bus.listeners.work.RETRIED", 3)
    failing: dict[str, Exception] = {f"a{number}": ValueError("no") for number in range(9)}
    hears = Hears(failing | {"b0": ValueError("not yet")})
    source = Memory(
        [message(f"a{number}", "a") for number in range(9)] + [message("b0", "b"), message("b1", "b")]
    )
    work = listening(hears, source, attempts=20)
    work.step()
    del hears.failing["b0"]
    time.move(seconds=10)
    work.step()

    assert hears.heard == ["b0", "b1"]
    assert hears.attempts.count("a0") == 2


def test_a_message_that_postgres_cannot_store_is_a_dead_letter(db: None, time: RecordedClock) -> None:
    hears = Hears({"a\ufffd": ValueError("half a pair \ud83d and a NUL \0")})
    odd = inbound({"event_id": "a\0", "name": "x\0", "correlation_id": "k\ud83d", "data": "\0"}, "1", "")
    work = listening(hears, Memory([odd, message("b")]), attempts=1)
    work.step()

    row = ListenerMessage.objects.get()
    assert (row.event_id, row.key, row.dead_at is not None) == ("a\ufffd", "k?", True)
    assert hears.heard == ["b"]


def test_data_that_postgres_refuses_is_the_fault_of_its_message(db: None, time: RecordedClock) -> None:
    lost = OperationalError("the connection is lost")
    hears = Hears({"a": DataError("value too long"), "b": lost, "c": statement_timeout()})
    work = listening(hears, Memory([message("a"), message("c")]), attempts=1)
    work.step()
    texts = [row.last_error for row in ListenerMessage.objects.order_by("event_id")]
    assert "value too long" in texts[0]
    assert "statement timeout" in texts[1]

    with pytest.raises(OperationalError):
        listening(hears, Memory([message("b")])).step()


def test_only_what_is_wanted_is_handled(db: None, time: RecordedClock) -> None:
    hears = Hears()
    source = Memory([message("1", name="order.planned"), message("2", name="position.open")])
    listening(hears, source, wants=["position.*"]).step()
    assert hears.heard == ["2"]


@pytest.mark.django_db(transaction=True)
def test_our_event_log_is_heard_from_the_next_event_on() -> None:
    write(2)
    heard: list[Inbound] = []
    work = listening(heard.append, EventLog("listener:test", log.FinalId()), batch=5)
    work.step()
    ids = write(12)
    while work.step():
        pass

    assert [int(one.event_id) for one in heard] == ids
    assert heard[0].body["data"] == {}
    assert heard[0].key == "test.row/1"
    assert EventCursor.objects.get(pk="listener:test").position == ids[-1]


@pytest.mark.django_db
def test_a_redis_stream_is_heard_again_after_a_crash_and_after_a_loss_of_memory(own_redis: Redis) -> None:
    def source() -> RedisStream:
        return RedisStream("test", stream="desk", url=own_redis.url)

    heard: list[Inbound] = []
    first = source()
    first.read(10)  # makes the group
    with redis.Redis.from_url(own_redis.url) as bus:
        corr = {"name": "desk.fill", "correlation_id": "c1"}
        bus.xadd("desk", {"message": json.dumps({"event_id": "7", **corr})})
        bus.xadd("desk", {"type": "desk.note", "text": "plain fields"})
        bus.xadd("desk", {"message": "no json"})
        assert len(first.read(10)) == 3  # and then it dies
        first.close()
        second = source()
        work = listening(heard.append, second)
        work.step()
        assert [(one.event_id, one.name, one.key) for one in heard[:1]] == [("7", "desk.fill", "c1")]
        assert heard[1].body == {"type": "desk.note", "text": "plain fields"}
        assert ListenerMessage.objects.get().dead_at is not None
        assert bus.xpending("desk", "maxxit:test")["pending"] == 0
        bus.flushall()
        bus.xadd("desk", {"type": "desk.after"})
        until(lambda: _stepped(work) and len(heard) == 3)
    second.close()

    assert heard[-1].name == "desk.after"


@pytest.mark.django_db(transaction=True)
def test_what_arrives_while_redis_has_no_group_is_handled(own_redis: Redis) -> None:
    """A step that fails closes its source: the next one must not skip what came before it opened."""
    hears = Hears()
    opened: list[RedisStream] = []

    def made() -> ListenerWork:
        opened.append(RedisStream("test", stream="desk", url=own_redis.url))
        return listening(hears, opened[-1])

    worker = run.Worker("listener:test", made, threading.Event(), idle=0.02, longest_wait=1.0)
    with redis.Redis.from_url(own_redis.url) as bus:
        bus.xadd("desk", {"event_id": "r0", "name": "desk.fill"})
        until(lambda: worker._attempt() is not None and "r0" in hears.heard)
        bus.flushall()
        bus.xadd("desk", {"event_id": "r1", "name": "desk.fill"})
        worker._attempt()  # NOGROUP
        assert worker.failures == 1
        bus.xadd("desk", {"event_id": "r2", "name": "desk.fill"})
        until(lambda: worker._attempt() is not None and "r2" in hears.heard)
        assert len(opened) == 2

        worker._close_work()  # as where Redis was away first: no source has seen NOGROUP
        bus.flushall()
        bus.xadd("desk", {"event_id": "r3", "name": "desk.fill"})
        until(lambda: worker._attempt() is not None and "r3" in hears.heard)
    worker._release()

    assert hears.heard == ["r0", "r1", "r2", "r3"]


def _stepped(work: ListenerWork) -> bool:
    """Do a step; False where Redis no longer knew the group, which is then made again."""
    try:
        work.step()
    except Retryable:
        return False
    return True


@pytest.mark.django_db
def test_a_step_that_failed_on_a_redis_stream_is_repeated(own_redis: Redis) -> None:
    source = RedisStream("test", stream="desk", url=own_redis.url)
    source.read(10)  # makes the group
    with redis.Redis.from_url(own_redis.url) as bus:
        for number in range(3):
            bus.xadd("desk", {"event_id": f"r{number}", "name": "desk.fill"})
        hears = Hears({"r1": OperationalError("the connection is lost")})
        work = listening(hears, source)
        with pytest.raises(OperationalError):
            work.step()
        bus.xadd("desk", {"event_id": "r3", "name": "desk.fill"})
        hears.failing.clear()
        work.step()
        work.step()
        assert bus.xpending("desk", "maxxit:test")["pending"] == 0
    source.close()

    assert hears.heard == ["r0", "r0", "r1", "r2", "r3"]


@pytest.mark.limit(240)
@pytest.mark.django_db(transaction=True)
def test_a_step_that_failed_on_a_kafka_topic_is_repeated(broker: Broker) -> None:  # noqa: F811
    producer = Producer({"bootstrap.servers": broker.servers})
    for number in range(4):
        producer.produce("desk", json.dumps({"event_id": f"k{number}", "name": "desk.fill"}), key=b"c1")
    producer.flush(20)
    hears = Hears({"k2": OperationalError("the connection is lost")})

    def made() -> ListenerWork:
        return listening(hears, KafkaTopic("again", servers=broker.servers, topic="desk", settings=SOON))

    worker = run.Worker("listener:test", made, threading.Event(), idle=0.02, longest_wait=1.0)
    until(lambda: worker._attempt() is not None and "k2" in hears.attempts, 60)
    hears.failing.clear()
    until(lambda: worker._attempt() is not None and "k3" in hears.heard, 60)
    worker._release()

    assert list(dict.fromkeys(hears.heard)) == ["k0", "k1", "k2", "k3"]


@pytest.mark.limit(240)
@pytest.mark.django_db(transaction=True)
def test_a_kafka_topic_is_heard_as_json_and_as_avro(broker: Broker, registry: Any) -> None:  # noqa: F811
    producer = Producer({"bootstrap.servers": broker.servers})
    for number in range(5):
        body = {"event_id": f"k{number}", "name": "desk.fill"}
        producer.produce("desk", json.dumps(body), key=b"c1")
    producer.flush(20)
    heard: list[Inbound] = []
    source = KafkaTopic("test", servers=broker.servers, topic="desk")
    work = listening(heard.append, source)
    until(lambda: bool(work.step()) or len(heard) >= 5, 60)
    work.close()

    assert [one.event_id for one in heard] == [f"k{number}" for number in range(5)]
    assert {one.key for one in heard} == {"c1"}

    one = relay(broker)
    ids = write(3)
    from maxxit.bus import updates

    one.publish(updates.messages(log.read(ids[0] - 1, ids[-1], 10)))
    one.close()
    avro = KafkaTopic("avro", servers=broker.servers, topic=TOPICS["events"], registry="mock://registry")
    heard.clear()
    work = listening(heard.append, avro)
    until(lambda: bool(work.step()) or len(heard) >= 3, 60)
    work.close()
    assert sorted(int(one.event_id) for one in heard) == ids
    assert not ListenerMessage.objects.exists()
