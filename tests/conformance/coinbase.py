"""Coinbase Advanced, public market data: coinbase-advanced-py, over HTTP and over the WebSocket."""

import json
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from coinbase.rest import RESTClient
from coinbase.websocket import WSClient
from coinbase.websocket.types.websocket_response import WebsocketResponse

from tests.conformance.conftest import Fakes
from tests.conformance.loopback import redirect

CANDLE = {"start", "low", "high", "open", "close", "volume"}


@pytest.fixture
def client(fakes: Fakes) -> RESTClient:
    client = RESTClient()
    redirect(client.session, fakes.urls["market"])
    return client


def test_the_last_trade_with_bid_and_ask(fakes: Fakes, client: RESTClient) -> None:
    fakes.market_says(price="2000")
    said = client.get_public_market_trades("ETH-USD", 1)
    (trade,) = said.trades
    assert (trade.price, trade.product_id) == ("2000", "ETH-USD")
    assert set(trade.to_dict()) <= {"trade_id", "product_id", "price", "size", "time", "side", "exchange"}
    assert float(said.best_bid) < float(trade.price) < float(said.best_ask)
    ours = fakes.market_ours(feed="coinbase")
    assert ours["price"] == trade.price
    assert _request(ours["quote"][0]) == ("/api/v3/brokerage/market/products/ETH-USD/ticker", {"limit": "1"})


def test_candles_are_asked_for_and_read_as_we_do(fakes: Fakes, client: RESTClient) -> None:
    fakes.market_says(price="2000", candles=12)
    ours = fakes.market_ours(feed="coinbase", bars=12)
    path, query = _request(ours["candles"][0])
    fakes.market_says(price="2000", candles=12)
    said = client.get_public_candles(
        "ETH-USD", query["start"], query["end"], query["granularity"], int(query["limit"])
    )
    assert [_request(one) for one in fakes.market_asked()] == [(path, query)]
    assert len(said.candles) == ours["bars"] == 12
    assert all(set(one.to_dict()) == CANDLE for one in said.candles)
    assert all(isinstance(value, str) for one in said.candles for value in one.to_dict().values())
    starts = [int(one.start) for one in said.candles]
    assert starts == sorted(starts, reverse=True)


def test_an_unknown_product_and_a_limit_are_http_errors(fakes: Fakes, client: RESTClient) -> None:
    fakes.market_says(price="2000")
    with pytest.raises(requests.HTTPError, match="NOT_FOUND"):
        client.get_public_market_trades("NOPE-USD", 1)
    fakes.market_fault(fault="too_many", times=1)
    with pytest.raises(requests.HTTPError, match="429"):
        client.get_public_market_trades("ETH-USD", 1)


def test_the_websocket_speaks_in_the_clients_types(fakes: Fakes) -> None:
    heard: list[str] = []
    client = WSClient(base_url=fakes.urls["exchange"], on_message=heard.append, retry=False, timeout=5)
    client.open()
    try:
        client.subscribe(["ETH-USD"], ["heartbeats", "ticker"])
        _until(lambda: len(fakes.exchange_sends(price="2000")) == 2)
        _until(lambda: len(heard) >= 2)
        subscribed = fakes.exchange_sends(price="2000")
    finally:
        client.close()
    read = [WebsocketResponse(json.loads(text)) for text in heard]
    beat = next(one for one in read if one.channel == "heartbeats")
    assert beat.events[0].heartbeat_counter == "0"
    ticker = next(one for one in read if one.channel == "ticker").events[0].tickers[0]
    assert (ticker.product_id, ticker.price, ticker.best_bid) == ("ETH-USD", "2000", "2000")
    known = set(vars(type(ticker)()))
    frames = [event for text in heard for event in json.loads(text).get("events", [])]
    raw = [one for event in frames for one in event.get("tickers", [])]  # frames come in any order
    assert raw
    assert set(raw[-1]) <= known
    ours = {"type": "subscribe", "channel": "ticker", "product_ids": ["ETH-USD"]}  # CoinbaseSocket._listen
    theirs = next(one for one in subscribed if one["channel"] == "ticker")
    assert {name: theirs[name] for name in ours} == ours
    assert set(theirs) - set(ours) <= {"timestamp", "jwt"}


def _request(url: str) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    return parts.path, dict(parse_qsl(parts.query))


def _until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
