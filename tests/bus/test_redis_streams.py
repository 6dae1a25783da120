"""Redis Streams: bounded, for consumer groups; each event once while Redis keeps its memory, none lost when not."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from maxxit.bus import policy, run, status
from maxxit.bus.models import EventCursor
from maxxit.bus.policy import BusPolicy, RelayStanza
from maxxit.bus.relays.redis_streams import RedisStreams
from maxxit.core.errors import Rejected, Retryable
from maxxit.embedded.servers import Redis
from maxxit.events import log
from tests import builders as make
from tests.events.writers import another_connection, insert

pytestmark = pytest.mark.django_db(transaction=True)
STREAM = "maxxit:bus:events"


def write(number: int) -> list[int]:
    """Commit events; return their ids."""
    with another_connection() as other:
        ids = [insert(other) for _ in range(number)]
        other.commit()
    return ids


def work(server: Redis, **options: Any) -> run.RelayWork:
    """A relay to `server` with small batches."""
    return run.RelayWork("relay:redis", RedisStreams(url=server.url, **options), log.FinalId(), 10)


def step_all(relay: run.RelayWork) -> None:
    """Publish all that is final."""
    while relay.step():
        pass


def entries(server: Redis) -> list[int]:
    """Event ids in the stream."""
    with redis.Redis.from_url(server.url) as bus:
        return [int(fields[b"event_id"]) for _, fields in bus.xrange(STREAM)]


def until(done: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_a_new_relay_begins_with_the_next_event_and_goes_on_from_its_cursor(own_redis: Redis) -> None:
    write(3)
    first = work(own_redis)
    step_all(first)
    ids = write(25)
    step_all(first)
    first.close()
    more = write(5)
    step_all(work(own_redis))

    assert entries(own_redis) == ids + more
    cursor = EventCursor.objects.get(pk="relay:redis")
    assert (cursor.position, cursor.sent) == (more[-1], 30)


def test_a_consumer_group_gets_every_event_with_its_envelope(own_redis: Redis) -> None:
    relay = work(own_redis, groups=["desk"])
    step_all(relay)
    ids = write(12)
    step_all(relay)
    with redis.Redis.from_url(own_redis.url) as bus:
        [(_, got)] = bus.xreadgroup("desk", "one", {STREAM: ">"}, count=100)
        messages = [json.loads(fields[b"message"]) for _, fields in got]
        bus.xack(STREAM, "desk", *[ident for ident, _ in got])
        assert bus.xpending(STREAM, "desk")["pending"] == 0

    assert [int(one["event_id"]) for one in messages] == ids
    assert {one["name"] for one in messages} == {"test.written"}


def test_the_stream_is_bounded(own_redis: Redis) -> None:
    relay = work(own_redis, keep=50)
    step_all(relay)
    ids = write(400)
    step_all(relay)

    kept = entries(own_redis)
    assert 50 <= len(kept) < 250  # Redis trims whole nodes of 100 entries
    assert kept == ids[-len(kept) :]


def test_a_batch_whose_answer_was_lost_is_not_written_twice(own_redis: Redis) -> None:
    relay = work(own_redis)
    step_all(relay)
    ids = write(4)
    before = EventCursor.objects.get(pk="relay:redis")
    step_all(relay)
    EventCursor.objects.filter(pk="relay:redis").update(position=before.position)  # as if it had died here
    more = write(2)
    step_all(relay)

    assert entries(own_redis) == ids + more


def test_a_redis_that_lost_its_memory_gets_the_newest_events_again(own_redis: Redis) -> None:
    relay = work(own_redis)
    step_all(relay)
    ids = write(20)
    step_all(relay)
    with redis.Redis.from_url(own_redis.url) as bus:
        bus.flushall()
    more = write(1)
    step_all(relay)

    assert entries(own_redis)[-21:] == ids + more


def test_a_redis_of_another_past_of_the_database_stops_the_relay(own_redis: Redis) -> None:
    relay = work(own_redis)
    step_all(relay)
    ids = write(5)
    step_all(relay)
    # The database is restored to the time before these events, and writes others under the same ids.
    with another_connection() as other:
        other.execute("SET session_replication_role = replica")  # past the trigger that refuses it
        other.execute("UPDATE events SET subject = 'test.other/1' WHERE id = ANY(%s)", [ids])
        other.commit()
    EventCursor.objects.update(position=ids[0] - 1)
    write(3)
    with pytest.raises(Rejected, match=r"has another event .* rewind redis --after"):
        relay.step()

    status.rewind("redis", ids[0] - 1)
    step_all(relay)
    assert entries(own_redis)[-9:] == list(range(ids[0], ids[0] + 9))  # with the event of the rewind


def test_a_cursor_past_the_end_of_the_event_log_stops_the_relay(own_redis: Redis) -> None:
    relay = work(own_redis)
    newest = write(1)[0]
    step_all(relay)
    EventCursor.objects.update(position=newest + 10)
    with pytest.raises(Rejected, match=f"cursor is at event {newest + 10}.*the database restored"):
        relay.step()


def test_a_step_that_fails_closes_what_it_worked_with() -> None:
    class Failing:
        name = "relay:test"
        made, closed = 0, 0

        def step(self) -> bool:
            raise ValueError("half done")

        def close(self) -> None:
            Failing.closed += 1

    def failing() -> Failing:
        Failing.made += 1
        return Failing()

    worker = run.Worker("relay:test", failing, threading.Event(), idle=0.02, longest_wait=1.0)
    for _ in range(2):
        worker._attempt()
    worker._release()
    assert (Failing.made, Failing.closed) == (2, 2)


def test_a_relay_that_never_ran_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    known = policy.policy().model_copy(update={"relays": ("redis",), "listeners": ("log",)})
    monkeypatch.setattr(status, "policy", lambda: known)
    assert status.late() == ["relay:redis has never run", "listener:log has never run"]


def test_a_redis_that_is_away_is_retryable_and_moves_nothing(own_redis: Redis) -> None:
    relay = work(own_redis)
    step_all(relay)
    ids = write(4)
    own_redis.stop()
    with pytest.raises(Retryable, match="Redis"):
        relay.step()

    assert EventCursor.objects.get(pk="relay:redis").position < ids[0]


@pytest.mark.limit(180)
def test_redis_stops_while_events_are_written_and_nothing_is_lost(own_redis: Redis) -> None:
    """The whole process: writers go on at their pace while Redis is away, and each event arrives once."""
    rules = BusPolicy(
        relays=("redis",),
        listeners=(),
        batch=50,
        idle_ms=20,
        stanzas={"redis": RelayStanza(adapter="redis", options={"url": own_redis.url})},
        listener_stanzas={},
        attempts=3,
        attempt_seconds=1,
        retry_seconds=1,
    )
    stop = threading.Event()
    threads = run.workers(rules, stop)
    for thread in threads:
        thread.start()
    try:
        until(lambda: EventCursor.objects.filter(pk="relay:redis").exists())
        ids = write(120)
        until(lambda: len(entries(own_redis)) == 120)
        own_redis.stop()
        began = time.monotonic()
        for _ in range(20):
            ids += write(10)
        wrote = time.monotonic() - began
        until(lambda: "Redis" in EventCursor.objects.get(pk="relay:redis").last_error)
        own_redis.start()
        ids += write(30)
        until(lambda: EventCursor.objects.get(pk="relay:redis").position == ids[-1])
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)

    arrived = entries(own_redis)
    assert set(ids) <= set(arrived)  # also those that it forgot when it stopped
    assert list(dict.fromkeys(arrived)) == sorted(set(arrived))
    assert wrote < 30
    assert not any(thread.is_alive() for thread in threads)


def test_of_two_processes_one_relays_and_the_other_takes_over(own_redis: Redis) -> None:
    rules = {"idle": 0.02, "longest_wait": 1.0}
    stops = [threading.Event(), threading.Event()]
    threads = [run.Worker("relay:redis", lambda: work(own_redis), stop, **rules) for stop in stops]
    threads[0].start()
    until(lambda: EventCursor.objects.filter(pk="relay:redis").exists())
    threads[1].start()
    ids = write(10)
    until(lambda: entries(own_redis) == ids)
    stops[0].set()
    threads[0].join(10)
    more = write(10)
    until(lambda: entries(own_redis) == ids + more)
    stops[1].set()
    threads[1].join(10)

    assert make.last_event() == more[-1]
