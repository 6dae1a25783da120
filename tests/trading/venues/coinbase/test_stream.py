"""The user stream wakes settlement; what it says is never booked, and what it does not say is found by polling."""

from collections.abc import Iterator
from datetime import UTC, datetime
from queue import Queue

import pytest

from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.socket import Socket, user_stream
from tests.trading.venues.coinbase.test_orders import ACCOUNT, fill, found, sent
from tests.trading.venues.coinbase.tokens import is_valid
from tests.trading.venues.coinbase.world import KnownKeys, other_secret
from trading.venues import account_stream
from trading.venues.coinbase import stream as module
from trading.venues.coinbase.stream import UserStream
from trading.venues.coinbase.token import Keys
from trading.venues.coinbase.venue import STREAM_URL, CoinbaseVenue

SECONDS = 20


@pytest.fixture
def socket(fake: Server) -> Iterator[Socket]:
    fake.exchange.portfolio(ACCOUNT)
    with user_stream(fake.exchange) as running:
        yield running


@pytest.fixture
def heard(venue: KnownKeys, socket: Socket, monkeypatch: pytest.MonkeyPatch) -> Iterator["Queue[str]"]:
    """What the listener of one account hears; it is subscribed."""
    monkeypatch.setattr(account_stream, "delay", lambda failures: 0.01)
    heard: Queue[str] = Queue()
    venue.stream_url = socket.url
    listener = venue.order_listener(ACCOUNT, heard.put)
    assert listener is not None
    listener.start()
    assert socket.listening.acquire(timeout=SECONDS)
    assert heard.get(timeout=SECONDS) == ""
    yield heard
    listener.end()
    listener.join(SECONDS)
    assert not listener.is_alive()


def test_each_order_that_changes_asks_for_the_account_to_be_polled(
    venue: KnownKeys, heard: "Queue[str]"
) -> None:
    prepared = sent(venue)
    assert [heard.get(timeout=SECONDS) for _ in range(2)] == ["", ""]  # taken, filled
    assert found(venue, prepared.ref).state == "filled"


def test_each_subscription_is_signed_anew_and_names_one_channel(
    fake: Server, socket: Socket, heard: "Queue[str]"
) -> None:
    assert [(one["type"], one["channel"]) for one in socket.received] == [
        ("subscribe", "heartbeats"),
        ("subscribe", "user"),
    ]
    tokens = [one["jwt"] for one in socket.received]
    issued = fake.exchange.portfolio(ACCOUNT).issued
    assert tokens[0] != tokens[1]
    assert all(is_valid(token, issued, "", datetime.now(UTC)) for token in tokens)


def test_a_connection_that_is_cut_between_two_fills_loses_none(
    venue: KnownKeys, fake: Server, socket: Socket, heard: "Queue[str]"
) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    fill(fake, "0.04")
    assert [heard.get(timeout=SECONDS) for _ in range(2)] == ["", ""]
    assert found(venue, prepared.ref).state == "partially_filled"
    socket.cut()
    fill(fake)  # nobody is told
    assert socket.listening.acquire(timeout=SECONDS)
    assert heard.get(timeout=SECONDS) == "", "it connects again and asks for all to be polled"
    assert found(venue, prepared.ref).state == "filled"


def test_a_missing_sequence_number_asks_for_all_to_be_polled(socket: Socket, heard: "Queue[str]") -> None:
    socket.skip()
    assert heard.get(timeout=SECONDS) == ""


@pytest.mark.parametrize(
    "frame", [b"\xff\xfe", "no JSON", "[]", '{"channel":7}', '{"sequence_num":"x"}', "{}"]
)
def test_a_frame_that_is_no_update_ends_nothing(
    venue: KnownKeys, socket: Socket, heard: "Queue[str]", frame: str | bytes
) -> None:
    socket.send_raw(frame)
    sent(venue)
    assert heard.get(timeout=SECONDS) == ""


def test_a_silent_connection_is_given_up(
    socket: Socket, heard: "Queue[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.1)
    assert socket.listening.acquire(timeout=SECONDS)
    assert heard.get(timeout=SECONDS) == ""


def test_a_key_that_is_refused_ends_the_listener(fake: Server, socket: Socket) -> None:
    heard: list[str] = []
    listener = UserStream(
        ACCOUNT, socket.url, Keys.parse(ACCOUNT, other_secret()), changed=lambda: heard.append("")
    )
    listener.run()
    assert listener.error == "NotAuthorized: Coinbase refuses the subscription: authentication failure"
    assert heard == []


def test_only_coinbases_stream_is_listened_to(fake: Server, venue: KnownKeys) -> None:
    assert CoinbaseVenue().stream_url == STREAM_URL == "wss://advanced-trade-ws-user.coinbase.com"
    assert venue.order_listener(ACCOUNT, print) is None, "a fake has none"
