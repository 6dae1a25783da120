"""The trade stream wakes settlement; what it says is never booked, and what it does not say is found by polling."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from queue import Queue

import pytest

from maxxit.core.errors import Misconfigured
from maxxit.events import wake
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.socket import Socket, trade_stream
from tests.trading.venues.alpaca.test_orders import ACCOUNT, found, sent, total
from tests.trading.venues.alpaca.world import KnownKeys
from trading.models import Order
from trading.venues import account_stream as module
from trading.venues.alpaca.client import PAPER_URL, Keys, stream_url
from trading.venues.alpaca.stream import TradeStream
from trading.venues.base import Venue
from trading.venues.order_streams import OrderStreams

D = Decimal
SECONDS = 20


@pytest.fixture
def socket(fake: Server) -> Iterator[Socket]:
    with trade_stream(fake.broker) as running:
        yield running


@pytest.fixture
def heard(
    venue: KnownKeys, fake: Server, socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator["Queue[str]"]:
    """What the listener of one account hears; it listens."""
    monkeypatch.setattr(module, "delay", lambda failures: 0.01)
    fake.broker.account(ACCOUNT)
    heard: Queue[str] = Queue()
    venue.stream_url = socket.url
    listener = venue.order_listener(ACCOUNT, heard.put)
    listener.start()
    assert heard.get(timeout=SECONDS) == ""
    assert socket.listening.acquire(timeout=SECONDS)
    yield heard
    listener.end()
    listener.join(SECONDS)
    assert not listener.is_alive()


def test_an_order_that_changes_is_named(venue: KnownKeys, heard: "Queue[str]") -> None:
    sent(venue)
    assert [heard.get(timeout=SECONDS) for _ in range(2)] == ["mx-1", "mx-1"]  # new, fill


def test_the_keys_are_sent_first_and_only_trade_updates_are_asked_for(
    socket: Socket, heard: "Queue[str]"
) -> None:
    assert socket.received == [
        {"action": "authenticate", "data": {"key_id": ACCOUNT, "secret_key": "secret"}},
        {"action": "listen", "data": {"streams": ["trade_updates"]}},
    ]


def test_a_connection_that_is_cut_between_two_fills_loses_none(
    venue: KnownKeys, fake: Server, socket: Socket, heard: "Queue[str]"
) -> None:
    fake.broker.fills = False
    prepared, account = sent(venue), fake.broker.account(ACCOUNT)
    fake.broker.fill(account, "mx-1", "0.5")
    assert [heard.get(timeout=SECONDS) for _ in range(2)] == ["mx-1", "mx-1"]
    assert total(found(venue, prepared.ref).fills) == D("0.5")
    socket.cut()
    fake.broker.fill(account, "mx-1")  # nobody is told
    assert heard.get(timeout=SECONDS) == "", "it connects again and asks for all to be polled"
    report = found(venue, prepared.ref)
    assert (report.state, total(report.fills)) == ("filled", D("1.5"))


@pytest.mark.parametrize(
    "frame",
    [b"\xff\xfe", "no JSON", b"[]", b'{"stream":"trade_updates"}', b'{"stream":"trade_updates","data":{"order":7}}',
     b'{"stream":"trade_updates","data":{"order":{"client_order_id":null}}}', b'{"stream":"other","data":null}'],
)  # fmt: skip
def test_a_frame_that_is_no_update_ends_nothing(
    venue: KnownKeys, socket: Socket, heard: "Queue[str]", frame: str | bytes
) -> None:
    socket.send_raw(frame)
    sent(venue)
    assert heard.get(timeout=SECONDS) == "mx-1"


def test_keys_that_are_refused_end_the_listener(fake: Server, socket: Socket) -> None:
    fake.broker.account(ACCOUNT)
    heard: list[str] = []
    listener = TradeStream(
        ACCOUNT, socket.url, Keys(ACCOUNT, "wrong"), heard=heard.append, connected=lambda: None
    )
    listener.run()
    assert listener.error == "NotAuthorized: Alpaca does not authorize these keys"
    assert heard == []


def test_only_the_paper_host_is_listened_to() -> None:
    assert stream_url(PAPER_URL) == "wss://paper-api.alpaca.markets/stream"
    with pytest.raises(Misconfigured):
        stream_url("https://api.alpaca.markets")


# --- all accounts


@pytest.fixture
def streams(
    venue: KnownKeys,
    socket: Socket,
    db: None,
    use_venue: Callable[[Venue], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OrderStreams]:
    monkeypatch.setattr(module, "delay", lambda failures: 0.01)
    venue.stream_url = socket.url
    use_venue(venue)
    streams = OrderStreams()
    yield streams
    for listener in streams.listeners.values():
        listener.end()


def woken(streams: OrderStreams) -> set[str]:
    with wake.collected() as tasks, pytest.MonkeyPatch.context() as patch:
        patch.setattr(wake.transaction, "on_commit", lambda act: act())
        streams.wake_heard(seconds=SECONDS)
    return tasks


ALL = {"trading.tasks.settle", "positions.tasks.sweep_exits", "positions.tasks.watch_venue_exits"}


def test_each_account_has_one_listener_and_what_it_hears_wakes_the_right_task(
    streams: OrderStreams, fake: Server, socket: Socket, time: RecordedClock
) -> None:
    deployment = make.booked_deployment(make.agent())
    account = fake.broker.account(deployment.account)
    streams.refresh()
    assert woken(streams) == ALL
    assert socket.listening.acquire(timeout=SECONDS)
    streams.refresh()
    assert len(streams.listeners) == 1
    entry = make.order(deployment, by=make.signal(deployment.agent))
    Order.objects.filter(pk=entry.pk).update(client_order_id="mx-1")
    for client_order_id, task in (
        ("mx-1", "trading.tasks.settle"),
        ("leg", "positions.tasks.watch_venue_exits"),
    ):
        fake.broker._tell(account, {"client_order_id": client_order_id}, "fill")
        assert woken(streams) == {task}
    close = make.order(deployment, by=entry.signal, purpose="close", closes=entry)
    Order.objects.filter(pk=close.pk).update(client_order_id="mx-2")
    fake.broker._tell(account, {"client_order_id": "mx-2"}, "fill")
    assert woken(streams) == {"positions.tasks.sweep_exits"}


def test_a_venue_that_keeps_no_exits_wakes_nobody_to_watch_them(
    streams: OrderStreams, venue: KnownKeys, fake: Server, socket: Socket, time: RecordedClock
) -> None:
    venue.capabilities = replace(venue.capabilities, resting_exits=False)
    account = fake.broker.account(make.booked_deployment(make.agent()).account)
    streams.refresh()
    assert woken(streams) == ALL - {"positions.tasks.watch_venue_exits"}
    assert socket.listening.acquire(timeout=SECONDS)
    fake.broker._tell(account, {"client_order_id": "leg"}, "fill")
    assert woken(streams) == set()


def test_an_account_that_cannot_be_opened_stops_no_other_and_is_tried_again(
    streams: OrderStreams, fake: Server, venue: KnownKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make.booked_deployment(make.agent()).account for _ in range(2))
    keys_of = venue._keys

    def keys(account: str) -> Keys:
        if account == first:
            raise RuntimeError("no keys")
        return keys_of(account)

    monkeypatch.setattr(venue, "_keys", keys)
    streams.refresh()
    assert [account for _, account in streams.listeners] == [second]
    monkeypatch.setattr(venue, "_keys", keys_of)
    streams.refresh()
    assert {account for _, account in streams.listeners} == {first, second}


def test_an_account_that_is_not_active_any_more_is_not_listened_to(
    streams: OrderStreams, fake: Server
) -> None:
    deployment = make.booked_deployment(make.agent())
    streams.refresh()
    [listener] = streams.listeners.values()
    type(deployment).objects.filter(pk=deployment.pk).update(state="paused")
    streams.refresh()
    assert streams.listeners == {}
    assert isinstance(listener, TradeStream)
    assert listener.stop.is_set()
