"""Alpaca's trading API: alpaca-py completes its life against the fake broker, and sends the orders that we send."""

import itertools
import json
import queue
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from alpaca.common.enums import Sort
from alpaca.common.exceptions import APIError
from alpaca.trading import enums as e
from alpaca.trading import models as m
from alpaca.trading import requests as r
from alpaca.trading.client import TradingClient
from alpaca.trading.stream import TradingStream

from tests.conformance.conftest import Fakes

KEY, SECRET = "PKCONFORMANCE", "alpaca-conformance-secret"
LIFE = {
    "GET /v2/account",
    "GET /v2/account/configurations",
    "GET /v2/clock",
    "GET /v2/calendar",
    "GET /v2/assets",
    "GET /v2/assets/ETH/USD",
    "POST /v2/orders",
    "GET /v2/orders",
    "GET /v2/orders:by_client_order_id",
    "GET /v2/orders/{id}",
    "PATCH /v2/orders/{id}",
    "DELETE /v2/orders/{id}",
    "DELETE /v2/orders",
    "GET /v2/positions",
    "GET /v2/positions/AAPL",
    "DELETE /v2/positions/AAPL",
    "DELETE /v2/positions",
    "GET /v2/account/activities/FILL",
    "GET /v2/account/activities",
}
"""What the client asks in this file; docs/conformance.md lists the same."""


@pytest.fixture
def client(fakes: Fakes) -> TradingClient:
    fakes.alpaca_opens(key=KEY, secret=SECRET)
    return TradingClient(KEY, SECRET, url_override=fakes.urls["alpaca"])


@pytest.fixture(scope="module", autouse=True)
def life(fakes: Fakes) -> Iterator[None]:
    """Check at the end that every path was asked, and no other."""
    fakes.alpaca_lines()
    yield
    assert set(fakes.alpaca_lines()) == LIFE


def buy(symbol: str = "AAPL", qty: float = 2, **more: Any) -> r.MarketOrderRequest:
    crypto = "/" in symbol
    tif = e.TimeInForce.IOC if crypto else e.TimeInForce.DAY
    return r.MarketOrderRequest(symbol=symbol, qty=qty, side=e.OrderSide.BUY, time_in_force=tif, **more)


def test_the_account_and_what_it_may_do(fakes: Fakes, client: TradingClient) -> None:
    account = client.get_account()
    assert (account.status, account.crypto_status) == (e.AccountStatus.ACTIVE, e.AccountStatus.ACTIVE)
    assert Decimal(account.cash or "") == 100_000
    assert {account.trading_blocked, account.account_blocked, account.trade_suspended_by_user} == {False}
    assert client.get_account_configurations().suspend_trade is False
    answer = fakes.alpaca_answer(path="/v2/account", key=KEY)
    assert set(answer) <= set(m.TradeAccount.model_fields)


def test_clock_and_calendar_with_the_early_close(client: TradingClient) -> None:
    clock = client.get_clock()
    assert clock.is_open
    assert clock.timestamp < clock.next_close
    days = client.get_calendar(r.GetCalendarRequest(start=date(2026, 11, 25), end=date(2026, 11, 28)))
    assert [(day.date.day, day.close.hour) for day in days] == [(25, 16), (27, 13)]


def test_assets(client: TradingClient) -> None:
    pair = client.get_asset("ETH/USD")
    assert (pair.asset_class, pair.tradable, pair.shortable) == (e.AssetClass.CRYPTO, True, False)
    stocks = client.get_all_assets(r.GetAssetsRequest(asset_class=e.AssetClass.US_EQUITY))
    assert [one.symbol for one in stocks] == ["AAPL"]


def test_a_market_order_is_filled_and_found_under_both_ids(fakes: Fakes, client: TradingClient) -> None:
    order = client.submit_order(buy(qty=0.4, client_order_id="mx-1"))
    assert (order.status, order.filled_qty, order.filled_avg_price) == (e.OrderStatus.FILLED, "0.4", "200")
    assert client.get_order_by_client_id("mx-1") == client.get_order_by_id(order.id) == order
    fields = set(m.Order.model_fields) | {"subtag", "source"}
    assert set(fakes.alpaca_answer(path=f"/v2/orders/{order.id}", key=KEY)) <= fields
    (position,) = client.get_all_positions()
    assert (position.symbol, position.qty, position.side) == ("AAPL", "0.4", e.PositionSide.LONG)
    assert client.get_open_position("AAPL") == position
    closing = client.close_position("AAPL")
    assert (closing.side, closing.status) == (e.OrderSide.SELL, e.OrderStatus.FILLED)
    assert client.get_all_positions() == []


def test_a_limit_order_waits_is_replaced_and_canceled(client: TradingClient) -> None:
    limit = r.LimitOrderRequest(
        symbol="AAPL", qty=3, side=e.OrderSide.BUY, time_in_force=e.TimeInForce.GTC, limit_price=150
    )
    order = client.submit_order(limit)
    assert order.status == e.OrderStatus.NEW
    new = client.replace_order_by_id(order.id, r.ReplaceOrderRequest(limit_price=151, qty=4))
    assert (new.replaces, new.qty, new.id != order.id) == (order.id, "4", True)
    old = client.get_order_by_id(order.id)
    assert (old.status, old.replaced_by) == (e.OrderStatus.REPLACED, new.id)
    client.cancel_order_by_id(new.id)
    assert client.get_order_by_id(new.id).status == e.OrderStatus.CANCELED
    with pytest.raises(APIError) as caught:
        client.cancel_order_by_id(new.id)
    assert (caught.value.status_code, caught.value.code) == (422, 42210000)
    client.submit_order(limit)
    assert [one.status for one in client.cancel_orders()] == [200]


def test_the_legs_of_a_bracket_are_held_until_its_entry_is_filled(
    fakes: Fakes, client: TradingClient
) -> None:
    fakes.alpaca_sets(fills=False)
    bracket = buy(
        client_order_id="mx-bracket",
        order_class=e.OrderClass.BRACKET,
        take_profit=r.TakeProfitRequest(limit_price=206),
        stop_loss=r.StopLossRequest(stop_price=197),
    )
    order = client.submit_order(bracket)
    assert [leg.status for leg in order.legs or ()] == [e.OrderStatus.HELD] * 2
    fakes.alpaca_fills(key=KEY, order="mx-bracket", quantity="1")
    partly = client.get_order_by_id(order.id, r.GetOrderByIdRequest(nested=True))
    assert partly.status == e.OrderStatus.PARTIALLY_FILLED
    assert [leg.status for leg in partly.legs or ()] == [e.OrderStatus.HELD] * 2
    fakes.alpaca_fills(key=KEY, order="mx-bracket", quantity="1")
    whole = client.get_orders(r.GetOrdersRequest(status=e.QueryOrderStatus.ALL, nested=True))[0]
    assert [leg.status for leg in whole.legs or ()] == [e.OrderStatus.NEW] * 2
    fakes.alpaca_sets(fills=True)
    fakes.alpaca_price(symbol="AAPL", usd="196")
    ended = client.get_orders(r.GetOrdersRequest(status=e.QueryOrderStatus.ALL, nested=True))[0]
    assert [(leg.type, leg.status) for leg in ended.legs or ()] == [
        (e.OrderType.LIMIT, e.OrderStatus.CANCELED),
        (e.OrderType.STOP, e.OrderStatus.FILLED),
    ]


def entry(
    order_class: e.OrderClass, *, stop: float = 0, target: float = 0, **more: Any
) -> r.MarketOrderRequest:
    """Two shares with the legs that are given."""
    legs: dict[str, Any] = {"order_class": order_class}
    if target:
        legs["take_profit"] = r.TakeProfitRequest(limit_price=target)
    if stop:
        legs["stop_loss"] = r.StopLossRequest(stop_price=stop)
    return r.MarketOrderRequest(
        symbol="AAPL", qty=2, side=e.OrderSide.BUY, time_in_force=e.TimeInForce.GTC, **legs, **more
    )


@pytest.mark.parametrize("leg", [{"stop": 197}, {"target": 206}])
def test_an_oto_order_has_one_leg_that_works_once_it_is_filled(
    fakes: Fakes, client: TradingClient, leg: dict[str, float]
) -> None:
    order = client.submit_order(entry(e.OrderClass.OTO, **leg))
    assert order.order_class == e.OrderClass.OTO
    [held] = order.legs or []
    assert held.type == (e.OrderType.STOP if "stop" in leg else e.OrderType.LIMIT)
    fakes.alpaca_price(symbol="AAPL", usd="196" if "stop" in leg else "207")
    nested = client.get_order_by_id(order.id, r.GetOrderByIdRequest(nested=True))
    assert [one.status for one in nested.legs or ()] == [e.OrderStatus.FILLED]
    assert client.get_all_positions() == []


def oco() -> r.LimitOrderRequest:
    return r.LimitOrderRequest(
        symbol="AAPL", qty=2, side=e.OrderSide.SELL, time_in_force=e.TimeInForce.GTC, limit_price=206,
        order_class=e.OrderClass.OCO, take_profit=r.TakeProfitRequest(limit_price=206),
        stop_loss=r.StopLossRequest(stop_price=197),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("usd", "statuses"), [("196", ["canceled", "filled"]), ("207", ["filled", "canceled"])]
)
def test_one_of_an_oco_pair_fills_and_the_other_is_canceled(
    fakes: Fakes, client: TradingClient, usd: str, statuses: list[str]
) -> None:
    client.submit_order(buy(qty=2))
    order = client.submit_order(oco())
    fakes.alpaca_price(symbol="AAPL", usd=usd)
    ended = client.get_order_by_id(order.id, r.GetOrderByIdRequest(nested=True))
    [stop] = ended.legs or []
    assert [ended.status.value, stop.status.value] == statuses


def test_a_leg_is_replaced_and_the_new_one_fills(fakes: Fakes, client: TradingClient) -> None:
    order = client.submit_order(entry(e.OrderClass.BRACKET, stop=197, target=206))
    stop = next(leg for leg in order.legs or () if leg.type == e.OrderType.STOP)
    new = client.replace_order_by_id(stop.id, r.ReplaceOrderRequest(stop_price=199))
    assert (new.replaces, Decimal(new.stop_price or 0)) == (stop.id, 199)
    assert client.get_order_by_id(stop.id).status == e.OrderStatus.REPLACED
    fakes.alpaca_price(symbol="AAPL", usd="198.5")
    assert client.get_order_by_id(new.id).status == e.OrderStatus.FILLED
    nested = client.get_order_by_id(order.id, r.GetOrderByIdRequest(nested=True))
    assert {leg.type: leg.status for leg in nested.legs or ()}[e.OrderType.LIMIT] == e.OrderStatus.CANCELED


def test_what_a_leg_holds_cannot_be_sold_beside_it(client: TradingClient) -> None:
    order = client.submit_order(entry(e.OrderClass.BRACKET, stop=197, target=206))
    with pytest.raises(APIError) as caught:
        client.close_position("AAPL")
    assert (caught.value.status_code, caught.value.code) == (403, 40310000)
    assert "insufficient qty available" in caught.value.message
    client.cancel_order_by_id((order.legs or [])[0].id)
    nested = client.get_order_by_id(order.id, r.GetOrderByIdRequest(nested=True))
    assert {leg.status for leg in nested.legs or ()} == {e.OrderStatus.CANCELED}
    assert client.close_position("AAPL").status == e.OrderStatus.FILLED


@pytest.mark.parametrize(
    ("order", "held", "message"),
    [
        (entry(e.OrderClass.BRACKET, stop=201, target=206), 0, "stop_loss.stop_price must be <= base_price - 0.01"),
        (entry(e.OrderClass.BRACKET, stop=197, target=199), 0, "take_profit.limit_price must be >= base_price + 0.01"),
        (oco(), 0, "oco orders must be exit orders"),
        (r.MarketOrderRequest(symbol="AAPL", qty=2, side=e.OrderSide.SELL, time_in_force=e.TimeInForce.GTC,
                              order_class=e.OrderClass.OTO, stop_loss=r.StopLossRequest(stop_price=203)),
         2, "bracket orders must be entry orders"),
        (r.MarketOrderRequest(symbol="AAPL", qty=2, side=e.OrderSide.BUY, time_in_force=e.TimeInForce.IOC,
                              order_class=e.OrderClass.OTO, stop_loss=r.StopLossRequest(stop_price=197)),
         0, "oto orders must have time_in_force day or gtc"),
        (r.MarketOrderRequest(symbol="AAPL", qty=1.5, side=e.OrderSide.BUY, time_in_force=e.TimeInForce.GTC,
                              order_class=e.OrderClass.OTO, stop_loss=r.StopLossRequest(stop_price=197)),
         0, "fractional orders must be DAY orders"),
    ],
)  # fmt: skip
def test_legs_that_cannot_be_are_refused(
    client: TradingClient, order: r.OrderRequest, held: int, message: str
) -> None:
    if held:
        client.submit_order(buy(qty=held))
    with pytest.raises(APIError) as caught:
        client.submit_order(order)
    assert (caught.value.status_code, caught.value.code, caught.value.message) == (422, 42210000, message)


@pytest.mark.parametrize(("stop", "target"), [("197", "206"), ("197", ""), ("", "206")])
def test_our_brackets_are_the_ones_that_it_sends(
    fakes: Fakes, client: TradingClient, stop: str, target: str
) -> None:
    ours = fakes.alpaca_bracket(key=KEY, stop=stop, target=target)
    before = len(fakes.alpaca_asked())
    fakes.alpaca_opens(key=KEY, secret=SECRET)
    kind = e.OrderClass.BRACKET if stop and target else e.OrderClass.OTO
    levels = {name: int(usd) for name, usd in (("stop", stop), ("target", target)) if usd}
    order = client.submit_order(entry(kind, **levels, client_order_id="mx-ours-0"))
    client.get_order_by_client_id("mx-ours-0")
    for leg in order.legs or ():
        with suppress(APIError):  # the first takes the other along
            client.cancel_order_by_id(leg.id)
    theirs = fakes.alpaca_asked()[before:]
    assert [one for one in map(said, ours) if one not in map(said, theirs)] == []
    assert [one for one in map(said, theirs) if one not in map(said, ours)] == []


def test_orders_are_listed_by_status_and_time(client: TradingClient) -> None:
    first = client.submit_order(buy(client_order_id="mx-1"))
    second = client.submit_order(buy(client_order_id="mx-2"))
    both = client.get_orders(r.GetOrdersRequest(status=e.QueryOrderStatus.CLOSED))
    assert [one.id for one in both] == [second.id, first.id]
    later = r.GetOrdersRequest(status=e.QueryOrderStatus.ALL, after=first.submitted_at, symbols=["AAPL"])
    assert [one.id for one in client.get_orders(later)] == [second.id]
    assert client.get_orders() == []
    closed = client.close_all_positions(cancel_orders=False)
    assert [(one.symbol, one.status) for one in closed] == [("AAPL", 200)]


def test_fills_and_transfers_are_activities(fakes: Fakes, client: TradingClient) -> None:
    order = client.submit_order(buy("ETH/USD", 0.5))
    rows = client.get("/account/activities/FILL", {"page_size": 1})
    fill = m.TradeActivity(**rows[0])
    assert set(rows[0]) <= set(m.TradeActivity.model_fields)
    assert (fill.order_id, fill.qty, fill.cum_qty, fill.leaves_qty) == (order.id, 0.5, 0.5, 0)
    assert client.get("/account/activities/FILL", {"page_token": fill.id}) == []
    fakes.alpaca_transfers(key=KEY, amount="-250.5")
    rows = client.get("/account/activities", {"activity_types": "CSD,CSW"})
    transfer = m.NonTradeActivity(**rows[0])
    assert (transfer.activity_type, transfer.net_amount) == (e.ActivityType.CSW, -250.5)
    assert set(rows[0]) <= set(m.NonTradeActivity.model_fields)


def test_the_fee_of_a_crypto_buy_is_taken_from_its_coins(client: TradingClient) -> None:
    """alpacahq/alpaca-py#374: 0.1 BTC bought, 0.09975 held."""
    order = client.submit_order(buy("ETH/USD", 0.1))
    assert order.filled_qty == "0.1"
    (position,) = client.get_all_positions()
    assert (position.symbol, position.qty) == ("ETHUSD", "0.099750000")


@pytest.mark.parametrize(
    ("order", "status", "code", "message"),
    [
        (buy(client_order_id="mx-dup"), 422, 40010001, "client_order_id must be unique"),
        (buy(qty=2000), 403, 40310000, "insufficient buying power"),
        (buy("ETH/USD", 1, order_class=e.OrderClass.OTO, stop_loss=r.StopLossRequest(stop_price=1)),
         422, 42210000, "crypto orders not allowed for advanced order_class"),
        (r.MarketOrderRequest(symbol="ETH/USD", qty=1, side=e.OrderSide.SELL, time_in_force=e.TimeInForce.IOC),
         403, 40310000, "insufficient balance for ETH (requested: 1.0, available: 0)"),
        (r.MarketOrderRequest(symbol="AAPL", qty=0.5, side=e.OrderSide.SELL, time_in_force=e.TimeInForce.DAY),
         422, 42210000, "fractional orders cannot be sold short"),
        (buy("NOPE"), 422, 42210000, 'asset "NOPE" not found'),
    ],
)  # fmt: skip
def test_refusals_are_its_errors(
    client: TradingClient, order: r.OrderRequest, status: int, code: int, message: str
) -> None:
    client.submit_order(buy(client_order_id="mx-dup", qty=1))
    client.close_all_positions(cancel_orders=True)
    with pytest.raises(APIError) as caught:
        client.submit_order(order)
    assert (caught.value.status_code, caught.value.code, caught.value.message) == (status, code, message)


def test_what_it_does_not_know_is_404_and_a_wrong_key_401(fakes: Fakes, client: TradingClient) -> None:
    for ask, name in ((client.get_order_by_client_id, "mx-never"), (client.get_open_position, "AAPL")):
        with pytest.raises(APIError) as caught:
            ask(name)
        assert (caught.value.status_code, caught.value.code) == (404, 40410000)
    stranger = TradingClient(KEY, "wrong", url_override=fakes.urls["alpaca"])
    with pytest.raises(APIError) as caught:
        stranger.get_account()
    assert (caught.value.status_code, caught.value.code) == (401, 40110000)


def test_a_rate_limit_is_retried_by_the_client(fakes: Fakes, client: TradingClient) -> None:
    client._retry_wait = 0
    fakes.alpaca_fault(name="limited", method="GET", path="/v2/clock")
    assert client.get_clock().is_open


def test_its_stream_hears_partial_fills_fills_and_cancellations(fakes: Fakes, client: TradingClient) -> None:
    fakes.alpaca_sets(fills=False)
    heard: queue.Queue[m.TradeUpdate] = queue.Queue()

    async def hear(update: m.TradeUpdate) -> None:
        heard.put(update)

    stream = TradingStream(KEY, SECRET, url_override=fakes.urls["alpaca_stream"])
    stream.subscribe_trade_updates(hear)
    thread = threading.Thread(target=stream.run, daemon=True)
    thread.start()
    try:
        order = client.submit_order(buy(client_order_id="mx-first"))
        while True:  # until it listens
            try:
                first = heard.get(timeout=1)
                break
            except queue.Empty:
                client.cancel_order_by_id(order.id)
                order = client.submit_order(buy(client_order_id=f"mx-{uuid.uuid4()}"))
        assert first.event in (e.TradeEvent.NEW, e.TradeEvent.CANCELED)
        order = client.submit_order(buy(client_order_id="mx-heard"))
        fakes.alpaca_fills(key=KEY, order="mx-heard", quantity="0.5")
        fakes.alpaca_fills(key=KEY, order="mx-heard", quantity="1.5")
        of_it = (
            update
            for update in iter(lambda: heard.get(timeout=20), None)
            if update.order.client_order_id == "mx-heard"
        )
        new, part, whole = itertools.islice(of_it, 3)
        assert [one.event for one in (new, part, whole)] == [
            e.TradeEvent.NEW, e.TradeEvent.PARTIAL_FILL, e.TradeEvent.FILL,
        ]  # fmt: skip
        assert (part.qty, part.price, part.order.client_order_id) == (0.5, 200, "mx-heard")
        assert part.execution_id != whole.execution_id
        assert whole.order.status == e.OrderStatus.FILLED
    finally:
        stream.stop()
        thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("symbol", ["AAPL", "ETH"])
def test_our_requests_are_the_ones_that_it_sends(fakes: Fakes, client: TradingClient, symbol: str) -> None:
    fakes.alpaca_sets(fills=False)
    ours = fakes.alpaca_ours(key=KEY, symbol=symbol, quantity="0.4", side="buy")
    before = len(fakes.alpaca_asked())
    fakes.alpaca_opens(key=KEY, secret=SECRET)
    fakes.alpaca_sets(fills=False)
    order = client.submit_order(buy({"ETH": "ETH/USD"}.get(symbol, symbol), 0.4, client_order_id="mx-ours-0"))
    client.get_order_by_client_id("mx-ours-0")
    client.get_orders(
        r.GetOrdersRequest(status=e.QueryOrderStatus.ALL, limit=500, direction=Sort.DESC, nested=True)
    )
    client.cancel_order_by_id(order.id)
    theirs = fakes.alpaca_asked()[before:]

    once = [one for n, one in enumerate(ours) if said(one) not in [said(two) for two in ours[:n]]]
    missing = [one for one in map(said, theirs) if one not in map(said, once)]
    assert missing == []
    absent = {"client_order_id": "mx-ours-1"}, {"client_order_id": "mx-ours-2"}
    assert [one for one in once if said(one) not in map(said, theirs) and one["query"] not in absent] == []


def shortest(number: str) -> str:
    """A number without zeros at its end: the client writes 206 as 206.0."""
    return f"{Decimal(number).normalize():f}"


def said(request: dict[str, Any]) -> tuple[str, str, dict[str, str], dict[str, Any]]:
    """What a request says. The client writes numbers as JSON numbers and booleans as True, we as strings and true."""
    body = json.loads(request["body"] or "{}", parse_float=shortest, parse_int=shortest)
    path = re.sub("[0-9a-f-]{36}", "{id}", request["path"])
    return request["method"], path, {k: v.lower() for k, v in request["query"].items()}, body
