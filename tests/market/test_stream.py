"""The price stream: ticks are stored once, in order and in time, despite faults of exchange, Redis and Postgres."""

import os
import signal
import subprocess
import sys
import threading
import time as machine
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import DatabaseError, connection, connections
from structlog.testing import capture_logs

from maxxit.core.errors import Rejected, Retryable
from maxxit.embedded.processes import wait_until
from maxxit.market import intake, ticks
from maxxit.market.candles import Span
from maxxit.market.feeds import FEEDS
from maxxit.market.feeds.base import Tick
from maxxit.market.models import Candle, MinuteCandle, Quote, RefusedQuote
from maxxit.market.stream import backoff
from maxxit.market.stream.buffer import Buffer, Outbox
from maxxit.market.stream.bus import Publisher
from maxxit.market.stream.coinbase import CoinbaseSocket, Refused, read_frame
from maxxit.market.stream.lease import Lease
from maxxit.market.stream.poller import Poller
from maxxit.market.stream.run import Stream
from maxxit.market.stream.status import open_bus, status
from tests.builders import T0, RecordedClock
from tests.market.exchange import Exchange, exchange, heartbeat, message, ticker
from tests.market.provider import OPTIONS, Provider, provider

SECOND = timedelta(seconds=1)
PRODUCTS = {"BTC-USD": "BTC", "ETH-USD": "ETH"}


def tick(price: str, at: datetime = T0, symbol: str = "BTC", source: str = "coinbase") -> Tick:
    return Tick(symbol, Decimal(price), at, source)


KEYS = ("maxxit:stream:leader", "maxxit:stream:status", ticks.STREAM, "monitor")


@pytest.fixture
def bus() -> Iterator[redis.Redis]:
    """The run's Redis without what a stream leaves there, its wakes included."""
    with open_bus() as one:
        one.delete(*KEYS)
        yield one
        one.delete(*KEYS)


# -- one event, wherever it comes from


def test_websocket_and_rest_give_the_same_event(time: RecordedClock) -> None:
    at = T0.replace(microsecond=123456)
    with provider() as rest:
        rest.says("BTC", "64000.50", at)
        feed = FEEDS.open("coinbase", name="coinbase", **OPTIONS["coinbase"](rest, ["BTC"]))
        by_rest = feed.quotes(["BTC"])["BTC"]
    bid, ask = Provider.sides("64000.50")
    text = ticker(0, "BTC-USD", "64000.50", at, bid=bid, ask=ask)
    (by_socket,) = read_frame(text, "coinbase", PRODUCTS).ticks

    assert ticks.event(by_socket) == ticks.event(by_rest)
    assert ticks.event(by_rest) == {
        "v": 1,
        "type": "tick",
        "symbol": "BTC",
        "price": "64000.5",
        "at": "2026-03-02T12:00:00.123456+00:00",
        "source": "coinbase",
        "confidence": "6.40005",
    }
    assert ticks.decode(ticks.encode(by_rest)) == by_rest


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"v": 2, "type": "tick"}', '{"v": 1, "type": "tick", "symbol": "BTC"}']
)
def test_a_tick_of_another_version_or_format_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        ticks.decode(text)


def test_an_error_message_of_the_exchange_is_raised() -> None:
    with pytest.raises(Refused, match="rate limit"):
        read_frame('{"type": "error", "message": "rate limit exceeded"}', "coinbase", PRODUCTS)


def test_one_ticker_that_cannot_be_read_silences_no_other() -> None:
    good = {"product_id": "BTC-USD", "price": "64000", "best_bid": "1", "best_ask": "2"}
    rows: list[Any] = [None, {}, good | {"product_id": []}, good | {"product_id": None}]
    for bad in rows:
        text = message("ticker", 5, T0, [{"tickers": [bad, good]}])
        with capture_logs() as logged:
            assert [tick.symbol for tick in read_frame(text, "coinbase", PRODUCTS).ticks] == ["BTC"]
        assert [one["event"] for one in logged] == ["row_refused"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{",
        '{"channel": "ticker", "sequence_num": 3, "events": [{}]}',
        '{"channel": "heartbeats", "sequence_num": "3"}',
        '{"channel": "ticker", "timestamp": "x", "events": [{"tickers": [{"product_id": "BTC-USD"}]}]}',
    ],
)
def test_a_malformed_message_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a message"):
        read_frame(text, "coinbase", PRODUCTS)


def test_other_channels_and_products_are_ignored() -> None:
    assert read_frame(message("subscriptions", 4, T0, []), "coinbase", PRODUCTS).ticks == ()
    assert read_frame(ticker(5, "DOGE-USD", "1", T0), "coinbase", PRODUCTS).ticks == ()


# -- bounded memory


def test_memory_follows_symbols_and_not_ticks() -> None:
    buffer = Buffer(Decimal(50))
    for number in range(1000):
        buffer.put(tick(str(100 + number % 7), T0 + number * SECOND))

    batch = buffer.take()

    assert batch.ticks == [tick(str(100 + 999 % 7), T0 + 999 * SECOND)]
    assert batch.spans["BTC", "coinbase"] == Span(
        "BTC", T0 + 999 * SECOND, Decimal(100), Decimal(106), Decimal(100), Decimal(105)
    )
    assert (buffer.received, buffer.merged) == (1000, 999)
    assert buffer.take().ticks == []


def test_nonsense_between_two_ticks_touches_neither_price_nor_range() -> None:
    buffer = Buffer(Decimal(50))
    for price in ("100", "1000", "NaN", "0", "101"):
        buffer.put(tick(price))

    batch = buffer.take()

    assert [one.price for one in batch.ticks] == [101]
    assert batch.spans["BTC", "coinbase"].high == 101
    assert [one.price for one in batch.odd] == [0]


def test_an_older_tick_is_late_and_an_unwritten_batch_is_put_back() -> None:
    buffer = Buffer(Decimal(50))
    buffer.put(tick("100", T0))
    buffer.put(tick("90", T0 - SECOND))
    batch = buffer.take()
    buffer.put(tick("103", T0 + SECOND))
    buffer.give_back(batch)

    assert not buffer.put(tick("103", T0 + SECOND))  # a poll that finds nothing new
    again = buffer.take()

    assert (buffer.late, buffer.repeated) == (1, 1)
    assert [one.price for one in again.ticks] == [103]
    assert again.spans["BTC", "coinbase"].open == 100


def test_a_full_outbox_drops_its_oldest_and_counts() -> None:
    outbox = Outbox(3)
    for price in "12345":
        outbox.put(tick(price))

    taken = outbox.take(2)
    outbox.put(tick("6"))
    outbox.put(tick("7"))
    outbox.give_back(taken)

    assert [int(one.price) for one in outbox.take(9)] == [5, 6, 7]
    assert outbox.dropped == 4


# -- the socket


@contextmanager
def listening(
    at: Exchange, put: Callable[[Tick], None], heal: Callable[[], None], silence: float = 5
) -> Iterator[CoinbaseSocket]:
    socket = CoinbaseSocket(
        "coinbase", at.url, {s: p for p, s in PRODUCTS.items()}, put, heal=heal, silence=silence
    )
    socket.start()
    yield socket
    socket.end()
    socket.join(3)
    assert not socket.is_alive()


def test_it_subscribes_hears_and_heals_gaps(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Tick] = []
    healed: list[float] = []
    with exchange() as at, listening(at, heard.append, lambda: healed.append(machine.monotonic())) as socket:
        at.wait_for(1)
        assert [said["channel"] for said in at.subscribed] == ["heartbeats", "ticker"]
        assert at.subscribed[1]["product_ids"] == ["BTC-USD", "ETH-USD"]
        at.send(heartbeat(0, T0))
        at.send(ticker(1, "BTC-USD", "64000", T0))
        at.send(ticker(1, "BTC-USD", "64000", T0))  # a duplicate
        at.send("{broken")
        at.send(ticker(5, "ETH-USD", "3000", T0 + SECOND))  # 2, 3 and 4 are lost
        at.send(ticker(3, "BTC-USD", "1", T0))  # and one comes late
        at.send(ticker(6, "BTC-USD", "64001", T0 + SECOND))
        assert wait_until(lambda: len(heard) == 3, 5)

        assert [one.price for one in heard] == [64000, 3000, 64001]
        assert (socket.gaps, socket.out_of_order, socket.malformed, len(healed)) == (1, 2, 1, 2)


def test_a_connection_that_is_cut_or_falls_silent_is_opened_anew() -> None:
    heard: list[Tick] = []
    with exchange() as at, listening(at, heard.append, lambda: None, silence=1.0) as socket:
        at.wait_for(1)
        at.send(heartbeat(0, T0))
        at.cut()
        at.wait_for(2)
        at.wait_for(3)  # nobody says anything on the second
        at.send(ticker(0, "BTC-USD", "64000", T0))
        assert wait_until(lambda: len(heard) == 1, 5)
        assert socket.connects == 3


def test_a_server_that_is_not_there_is_tried_again() -> None:
    with exchange() as at:
        url = at.url
    socket = CoinbaseSocket("coinbase", url, {"BTC": "BTC-USD"}, lambda _: None, heal=lambda: None, silence=5)
    socket.start()
    assert wait_until(lambda: "refused" in socket.error, 5)
    socket.end()
    socket.join(3)
    assert not socket.is_alive()


# -- the pollers


class Silent:
    """A feed that answers when told to."""

    name = "silent"

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0

    def quotes(self, symbols: object) -> dict[str, Tick]:
        self.asked += 1
        self.answers.wait(30)
        return {"BTC": tick("1", source="silent")}


def test_a_poller_rests_while_the_socket_lives_and_asks_when_something_was_missed() -> None:
    feed, live = Silent(), threading.Event()
    heard: list[Tick] = []
    feed.answers.set()
    live.set()
    poller = Poller(feed, ["BTC"], 0.02, heard.append, live.is_set)
    poller.start()
    assert wait_until(lambda: feed.asked == 1, 3)  # the first time always
    machine.sleep(0.2)
    assert feed.asked == 1
    poller.ask_now()
    assert wait_until(lambda: feed.asked == 2, 3)
    live.clear()
    assert wait_until(lambda: feed.asked > 4, 3)
    poller.end()
    poller.join(3)
    assert not poller.is_alive()


def test_a_bug_in_an_adapter_does_not_end_its_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Silent()

    def buggy(symbols: object) -> dict[str, Tick]:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(feed, "quotes", buggy)
    poller = Poller(feed, ["BTC"], 0.01, lambda _: None)

    assert poller._ask() > 0
    assert poller.error == "a bug"


def test_a_poller_waits_as_long_as_the_provider_asks() -> None:
    with provider() as source:
        source.misbehaves("too_many")
        feed = FEEDS.open("coingecko", name="coingecko", **OPTIONS["coingecko"](source, ["BTC"]))
        poller = Poller(feed, ["BTC"], 0.01, lambda _: None)
        assert poller._ask() == 7.0
        assert poller.failures == 1


def test_a_provider_that_asks_for_an_age_neither_ends_nor_silences_its_poller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = Silent()

    def patient(symbols: object) -> dict[str, Tick]:
        feed.asked += 1
        raise Retryable("429", after=1e12)

    monkeypatch.setattr(feed, "quotes", patient)
    poller = Poller(feed, ["BTC"], 0.01, lambda _: None)
    poller.start()
    assert wait_until(lambda: feed.asked == 1, 3)
    poller.ask_now()
    assert wait_until(lambda: feed.asked == 2, 3)
    poller.end()
    poller.join(3)
    assert poller._ask() == backoff.LONGEST


# -- the lease and the bus


def test_only_one_leads_and_the_next_takes_over_at_once(bus: redis.Redis) -> None:
    first, second = Lease(bus), Lease(bus)

    assert first.acquire()
    assert not second.acquire()
    assert first.still_mine()
    first.release()
    assert second.acquire()
    first.release()  # not its own any more: nothing happens
    assert not first.acquire()


def test_a_leader_that_was_paused_learns_that_it_was_replaced(bus: redis.Redis) -> None:
    first, second = Lease(bus, seconds=0.05), Lease(bus)
    outbox = Outbox(10)
    publisher = Publisher(bus, first, outbox, keep=100)
    assert first.acquire()
    publisher.publish([tick("1")])
    machine.sleep(0.1)
    assert second.acquire()

    publisher.publish([tick("2")])  # fenced off
    first._renewed -= 60
    assert not first.still_mine()
    assert bus.xlen(ticks.STREAM) == outbox.sent == 1


def test_what_redis_does_not_take_waits_and_is_sent_later(bus: redis.Redis) -> None:
    lease, outbox = Lease(bus), Outbox(10)
    lease.acquire()
    publisher = Publisher(bus, lease, outbox, keep=100)
    real, broken = publisher._publish, 2

    def flaky(**call: object) -> object:
        nonlocal broken
        broken -= 1
        if broken >= 0:
            raise redis.ConnectionError("restarting")
        return real(**call)  # type: ignore[arg-type]

    publisher._publish = flaky  # type: ignore[assignment]
    outbox.put(tick("1"))
    publisher.start()
    outbox.put(tick("2"))
    assert wait_until(lambda: outbox.sent == 2, 5)
    publisher.stop.set()
    publisher.join(3)

    said = [ticks.decode(fields[b"tick"]) for _, fields in bus.xrange(ticks.STREAM)]  # type: ignore[index, union-attr]
    assert [one.price for one in said] == [1, 2]
    assert publisher.errors == 2


# -- the whole process


@pytest.fixture
def leading(bus: redis.Redis) -> Iterator[Callable[..., Stream]]:
    """Call it with feeds: a stream that leads in a thread, and stops with the test."""
    running: list[tuple[Stream, threading.Thread]] = []

    def start(*feeds: object) -> Stream:
        stream = Stream(bus, feeds)  # type: ignore[arg-type]

        def work() -> None:
            stream.run()
            connections.close_all()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        running.append((stream, thread))
        return stream

    yield start
    for stream, thread in running:
        stream.stop.set()
        thread.join(5)
        assert not thread.is_alive()


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.django_db(transaction=True)
def test_ticks_become_quotes_bars_and_events(
    bus: redis.Redis, leading: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    with exchange() as at, provider() as rest:
        feed = FEEDS.open("coinbase", name="coinbase", **OPTIONS["coinbase"](rest, ["BTC", "ETH"]))
        policy = Stream(bus, []).policy.model_copy(update={"websockets": {"coinbase": {"url": at.url}}})
        monkeypatch.setattr("maxxit.market.stream.run.quotes.policy", _policy_with(policy))
        stream = leading(feed)
        at.wait_for(1)
        moment = now()
        rest.says("ETH", "3000", moment)  # quiet: only REST knows it
        at.send(heartbeat(0, moment))
        for number, price in enumerate(["64000", "64100", "63900", "64050"], start=1):
            at.send(ticker(number, "BTC-USD", price, moment + timedelta(microseconds=number)))
        assert wait_until(lambda: bus.xlen(ticks.STREAM) == 5 and Quote.objects.count() == 2, 5)
        assert wait_until(lambda: Candle.objects.filter(symbol="BTC", low=63900).exists(), 5)

        assert Quote.objects.get(symbol="BTC").price == 64050
        assert Quote.objects.get(symbol="ETH").price == 3000
        minute = MinuteCandle.objects.get(symbol="BTC")
        assert (minute.high, minute.low, minute.close) == (64100, 63900, 64050)
        said = status()
        assert said is not None
        assert said["owner"] == stream.lease.owner


def _policy_with(stream: object) -> Callable[[], object]:
    from maxxit.market import quotes

    policy = quotes.policy().model_copy(update={"stream": stream})
    return lambda: policy


@pytest.mark.django_db(transaction=True)
def test_two_streams_double_nothing_and_the_second_takes_over(
    bus: redis.Redis, leading: Callable[..., Stream]
) -> None:
    with provider() as source:
        source.says("BTC", "64000", now())
        feed = FEEDS.open("coingecko", name="coingecko", **OPTIONS["coingecko"](source, ["BTC"]))
        first, second = leading(feed), leading(feed)
        assert wait_until(lambda: Quote.objects.exists(), 5)
        leader, standby = (first, second) if first.leading else (second, first)
        assert not standby.leading
        assert bus.xlen(ticks.STREAM) == 1
        leader.stop.set()
        assert wait_until(lambda: standby.leading, 5)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_loses_nothing(
    bus: redis.Redis, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    stream = Stream(bus, [])
    real = intake.take
    monkeypatch.setattr(intake, "take", _raises)
    stream.put(tick("64000"))
    stream.put(tick("64500", T0 + SECOND))
    assert not stream.flush()
    monkeypatch.setattr(intake, "take", real)
    assert stream.flush()

    assert Quote.objects.get().price == 64500
    assert Candle.objects.get().open == 64000


def _raises(*_: object) -> None:
    raise DatabaseError("the server closed the connection")


@pytest.mark.django_db(transaction=True)
def test_nonsense_in_the_stream_is_refused_and_written_down(bus: redis.Redis, time: RecordedClock) -> None:
    stream = Stream(bus, [])
    stream.put(tick("64000"))
    stream.put(tick("640000", T0 + SECOND))
    assert stream.flush()

    assert Quote.objects.get().price == 64000
    assert RefusedQuote.objects.get().reason == "jump"
    assert not Quote.objects.get().trusted_for_entries
    assert Candle.objects.get().high == 64000


@pytest.mark.django_db(transaction=True)
def test_the_command_plays_the_demo_without_a_network_and_stops_in_time(
    worker_environ: dict[str, str], bus: redis.Redis
) -> None:
    environ = worker_environ | {"MAXXIT_PROFILE": "demo"}
    command = [sys.executable, "manage.py", "stream"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert wait_until(lambda: Quote.objects.count() >= 5, 20, lambda: process.poll() is not None)
            assert wait_until(lambda: (status() or {}).get("quotes", 0) >= 5, 5)
        finally:
            began = machine.monotonic()
            os.kill(process.pid, signal.SIGTERM)
            code = process.wait(10)
        assert (code, machine.monotonic() - began < 3) == (0, True)
    assert bus.get("maxxit:stream:leader") is None
    connection.close()
