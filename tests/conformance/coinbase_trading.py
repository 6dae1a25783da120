"""Coinbase Advanced, trading: coinbase-advanced-py completes its life against the fake, and sends what we send."""

import inspect
import json
import queue
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from coinbase.rest import RESTClient
from coinbase.rest.types import accounts_types, orders_types, product_types
from coinbase.websocket import WSUserClient
from coinbase.websocket.types.websocket_response import WebsocketResponse

from tests.conformance.conftest import Fakes
from tests.conformance.loopback import redirect

KEY = "organizations/0c1/apiKeys/conformance"
API = "/api/v3/brokerage"
LIFE = {
    f"GET {API}/time",
    f"GET {API}/key_permissions",
    f"GET {API}/accounts",
    f"GET {API}/accounts/{{id}}",
    f"GET {API}/products",
    f"GET {API}/products/ETH-USD",
    f"POST {API}/orders",
    f"POST {API}/orders/preview",
    f"POST {API}/orders/edit",
    f"POST {API}/orders/batch_cancel",
    f"GET {API}/orders/historical/batch",
    f"GET {API}/orders/historical/fills",
    f"GET {API}/orders/historical/{{id}}",
}
"""What the client asks in this file; docs/conformance.md lists the same."""


@pytest.fixture(params=["ES256", "EdDSA"])
def client(request: pytest.FixtureRequest, fakes: Fakes) -> RESTClient:
    secret = fakes.coinbase_opens(key=KEY, kind=request.param)
    return client_of(fakes, secret)


def client_of(fakes: Fakes, secret: str) -> RESTClient:
    made = RESTClient(api_key=KEY, api_secret=secret)
    redirect(made.session, fakes.urls["coinbase"])
    return made


@pytest.fixture(scope="module", autouse=True)
def life(fakes: Fakes) -> Iterator[None]:
    """Check at the end that every path was asked, and no other."""
    fakes.coinbase_lines()
    yield
    known = {line for line in fakes.coinbase_lines() if not line.endswith(("/NOPE-USD", "/ETH-EUR"))}
    assert known == LIFE


def members(model: type) -> set[str]:
    """Return what the client's own model reads of an answer, by its text, which names each member."""
    return set(re.findall(r'"(\w+)" in (?:kwargs|response)', inspect.getsource(model)))


def test_the_key_and_the_clock(fakes: Fakes, client: RESTClient) -> None:
    permissions = client.get_api_key_permissions()
    assert (permissions.can_view, permissions.can_trade, permissions.can_transfer) == (True, True, False)
    assert re.fullmatch(r"[0-9a-f-]{36}", permissions.portfolio_uuid)
    time = client.get_unix_time()
    assert int(time.epoch_millis) // 1000 == int(time.epoch_seconds)


def test_accounts_on_several_pages(fakes: Fakes, client: RESTClient) -> None:
    client.market_order_buy("by-hand", "ETH-USD", base_size="0.5")
    fakes.coinbase_sets(page=1)
    first = client.get_accounts()
    assert (first.has_next, len(first.accounts)) == (True, 1)
    second = client.get_accounts(cursor=first.cursor)
    assert [one.currency for one in (*first.accounts, *second.accounts)] == ["USD", "ETH"]
    coins = client.get_account(second.accounts[0].uuid).account
    assert (coins["currency"], coins["available_balance"]["value"]) == ("ETH", "0.5")
    known = members(accounts_types.Account)
    assert {name for one in (first.accounts[0], coins) for name in one.to_dict()} <= known


def test_products(client: RESTClient) -> None:
    product = client.get_product("ETH-USD")
    assert (product.status, product.base_increment, product.trading_disabled) == (
        "online",
        "0.00000001",
        False,
    )
    assert set(product.to_dict()) <= members(product_types.GetProductResponse) | {
        "price_increment",
        "display_name",
    }
    assert {one.product_id for one in client.get_products().products} == {"ETH-USD", "BTC-USD"}
    with pytest.raises(requests.HTTPError, match="NOT_FOUND"):
        client.get_product("NOPE-USD")


def test_a_market_order_is_filled_and_found(client: RESTClient) -> None:
    answer = client.market_order_buy("by-hand-1", "ETH-USD", quote_size="1000")
    assert answer.success
    assert answer.success_response["client_order_id"] == "by-hand-1"
    order = client.get_order(answer.success_response["order_id"]).order
    assert (order.status, order.filled_size, order.client_order_id) == ("FILLED", "0.50000000", "by-hand-1")
    assert set(order.to_dict()) <= members(orders_types.Order)
    (fill,) = client.get_fills(order_ids=[order.order_id]).fills
    assert set(fill.to_dict()) <= members(orders_types.Fill)
    assert (fill.price, fill.size, fill.commission, fill.side) == (
        "2000",
        "0.50000000",
        "6.00000000000",
        "BUY",
    )
    sold = client.market_order_sell("by-hand-2", "ETH-USD", base_size="0.5")
    orders = client.list_orders(product_ids=["ETH-USD"], order_status=["FILLED"]).orders
    assert [one.order_id for one in orders] == [sold.success_response["order_id"], order.order_id]


def test_a_repeated_id_returns_the_order_that_has_it(client: RESTClient) -> None:
    first, second = (client.market_order_buy("by-hand", "ETH-USD", base_size="0.1") for _ in range(2))
    assert first.success_response["order_id"] == second.success_response["order_id"]
    assert len(client.list_orders().orders) == 1


def test_a_limit_order_waits_is_edited_and_canceled(client: RESTClient) -> None:
    answer = client.limit_order_gtc_buy("by-hand", "ETH-USD", base_size="1", limit_price="1900")
    order_id = answer.success_response["order_id"]
    assert client.edit_order(order_id, size="2", price="1890").success
    order = client.get_order(order_id).order
    assert (order.status, order.edit_history[0].price) == ("OPEN", "1890")
    assert client.get_accounts().accounts[0].hold["value"] == "3780"
    (result,) = client.cancel_orders([order_id]).results
    assert (result.success, client.get_order(order_id).order.status) == (True, "CANCELLED")
    (again,) = client.cancel_orders([order_id]).results
    assert (again.success, again.failure_reason) == (False, "INVALID_CANCEL_REQUEST")


def test_other_orders_are_taken(client: RESTClient) -> None:
    client.market_order_buy("held", "ETH-USD", base_size="5")
    answers = [
        client.limit_order_ioc_buy("ioc", "ETH-USD", base_size="1", limit_price="1999"),
        client.limit_order_fok_buy("fok", "ETH-USD", base_size="1", limit_price="1999"),
        client.stop_limit_order_gtc_sell("stop", "ETH-USD", "1", "1790", "1800", "STOP_DIRECTION_STOP_DOWN"),
        client.trigger_bracket_order_gtc_sell(
            "bracket", "ETH-USD", base_size="1", limit_price="2200", stop_trigger_price="1800"
        ),
    ]  # fmt: skip
    statuses = [client.get_order(one.success_response["order_id"]).order.status for one in answers]
    assert statuses == ["CANCELLED", "CANCELLED", "OPEN", "OPEN"]


def test_fills_in_parts_on_several_pages(fakes: Fakes, client: RESTClient) -> None:
    fakes.coinbase_sets(fills=False)
    order_id = client.market_order_buy("by-hand", "ETH-USD", base_size="1").success_response["order_id"]
    for _ in range(3):
        fakes.coinbase_fills(key=KEY, order="by-hand", size="0.25")
    order = client.get_order(order_id).order
    assert (order.status, order.filled_size, order.number_of_fills) == ("OPEN", "0.75", "3")
    fakes.coinbase_sets(page=2)
    first = client.get_fills(order_ids=[order_id])
    second = client.get_fills(order_ids=[order_id], cursor=first.cursor)
    assert (len(first.fills), len(second.fills), second.cursor) == (2, 1, "")
    assert len({one.entry_id for one in (*first.fills, *second.fills)}) == 3


def test_a_preview_shows_price_fee_and_objections(client: RESTClient) -> None:
    seen = client.preview_limit_order_ioc_buy("ETH-USD", base_size="0.5", limit_price="2010")
    assert (seen.errs, seen.order_total, seen.commission_total) == ([], "1006.0000", "6.0000")
    assert seen["est_average_filled_price"] == "2000"
    refused = client.preview_market_order_sell("ETH-USD", base_size="0.5")
    assert refused.errs == ["PREVIEW_INSUFFICIENT_FUND"]
    known = members(orders_types.PreviewOrderResponse)
    assert set(seen.to_dict()) <= known | {"est_average_filled_price"}


@pytest.mark.parametrize(
    ("product", "size", "word"),
    [("ETH-USD", "5000", "INSUFFICIENT_FUND"), ("ETH-EUR", "1", "INVALID_PRODUCT_ID"),
     ("ETH-USD", "0.000000001", "INVALID_SIZE_PRECISION")],
)  # fmt: skip
def test_a_refusal_is_an_answer_without_success(
    client: RESTClient, product: str, size: str, word: str
) -> None:
    answer = client.market_order_buy("by-hand", product, base_size=size)
    assert answer.success is False
    assert answer.error_response["error"] == word
    assert set(answer.error_response) <= members(orders_types.CreateOrderError)


def test_a_wrong_key_and_a_wrong_clock_are_401(fakes: Fakes, client: RESTClient) -> None:
    fakes.coinbase_sets(skew_seconds=200)
    with pytest.raises(requests.HTTPError, match="401 Client Error: Unauthorized"):
        client.get_accounts()
    fakes.coinbase_sets()
    client.get_accounts()
    fakes.coinbase_opens(key=KEY, kind="EdDSA")
    with pytest.raises(requests.HTTPError, match="401 Client Error: Unauthorized"):
        client.get_accounts()


@pytest.mark.parametrize(
    ("fault", "words"), [("limited", "429 Client Error"), ("maintenance", "503 Server Error")]
)
def test_faults_are_its_errors(fakes: Fakes, client: RESTClient, fault: str, words: str) -> None:
    fakes.coinbase_fault(name=fault, method="GET", path="/accounts")
    with pytest.raises(requests.HTTPError, match=words):
        client.get_accounts()


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
def test_our_requests_are_the_ones_that_it_sends(fakes: Fakes, kind: str) -> None:
    client_of(fakes, fakes.coinbase_opens(key=KEY, kind=kind))
    fakes.coinbase_sets(fills=False, eth="1")
    ours = [said(one) for one in fakes.coinbase_ours(key=KEY, symbol="ETH", quantity="0.4")]
    listed = next(query for line, query, _ in ours if line.endswith("/batch"))
    sent = [body["client_order_id"] for line, _, body in ours if line == f"POST {API}/orders"]

    client = client_of(fakes, fakes.coinbase_opens(key=KEY, kind=kind))
    fakes.coinbase_sets(fills=False, eth="1")
    before = len(fakes.coinbase_asked())
    client.get_product("ETH-USD", get_tradability_status=None)
    client.get_accounts(limit=250)
    client.preview_limit_order_ioc_buy("ETH-USD", base_size="0.4", limit_price="2010")
    entry = client.limit_order_ioc_buy(sent[0], "ETH-USD", base_size="0.4", limit_price="2010")
    entry_id = entry.success_response["order_id"]
    client.get_order(entry_id)
    client.list_orders(start_date=listed["start_date"], end_date=listed["end_date"], limit=250)
    client.get_fills(order_ids=[entry_id], limit=250)
    leaving = client.market_order_sell(sent[1], "ETH-USD", base_size="0.4")
    client.cancel_orders([leaving.success_response["order_id"]])
    client.get_api_key_permissions()
    client.get_unix_time()
    theirs = [said(one) for one in fakes.coinbase_asked()[before:]]

    assert [one for one in ours if one not in theirs] == []
    assert [one for one in theirs if one not in ours] == []


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
def test_our_tokens_are_made_as_its_own(fakes: Fakes, kind: str) -> None:
    client = client_of(fakes, fakes.coinbase_opens(key=KEY, kind=kind))
    (ours,) = (
        one
        for one in fakes.coinbase_ours(key=KEY, symbol="ETH", quantity="0.4")
        if "permissions" in one["path"]
    )
    client.get_api_key_permissions()
    theirs = fakes.coinbase_asked()[-1]
    (head, claims), (their_head, their_claims) = (parts(one["token"]) for one in (ours, theirs))
    assert head.keys() == their_head.keys()
    assert {name: head[name] for name in ("alg", "kid", "typ")} == {
        name: their_head[name] for name in ("alg", "kid", "typ")
    }
    assert len(head["nonce"]) == len(their_head["nonce"])
    assert claims.keys() == their_claims.keys()
    assert [claims[name] for name in ("sub", "iss", "uri")] == [
        their_claims[name] for name in ("sub", "iss", "uri")
    ]
    assert claims["exp"] - claims["nbf"] == their_claims["exp"] - their_claims["nbf"] == 120


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
def test_its_user_stream_hears_snapshot_and_updates(fakes: Fakes, kind: str) -> None:
    secret = fakes.coinbase_opens(key=KEY, kind=kind)
    fakes.coinbase_subscribed()
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    stream = WSUserClient(
        api_key=KEY, api_secret=secret, base_url=fakes.urls["coinbase_stream"], retry=False, timeout=20,
        on_message=lambda text: heard.put(json.loads(text)),
    )  # fmt: skip
    stream.open()
    try:
        stream.subscribe([], ["heartbeats"])
        stream.subscribe([], ["user"])
        messages = [heard.get(timeout=20) for _ in range(2)]
        assert [one["channel"] for one in messages] == ["heartbeats", "user"]
        assert messages[1]["events"][0]["type"] == "snapshot"
        client_of(fakes, secret).market_order_buy("by-hand", "ETH-USD", base_size="0.5")
        taken, filled = (WebsocketResponse(heard.get(timeout=20)).events[0].orders[0] for _ in range(2))
    finally:
        stream.close()
    assert (taken.status, filled.status, filled.cumulative_quantity) == ("OPEN", "FILLED", "0.5")
    assert {one["channel"]: set(one) for one in fakes.coinbase_subscribed()} == {
        channel: {"type", "channel", "product_ids", "jwt"} for channel in ("heartbeats", "user")
    }


def said(request: dict[str, Any]) -> tuple[str, dict[str, str], Any]:
    """What a request says; the client sends an empty object with every GET. Coinbase's ids are {id}."""
    path = re.sub("[0-9a-f-]{36}", "{id}", request["path"])
    body = json.loads(request["body"] or "{}")
    if "order_ids" in body:
        body["order_ids"] = ["{id}"] * len(body["order_ids"])
    query = {name: "{id}" if name == "order_ids" else value for name, value in request["query"]}
    return f"{request['method']} {path}", query, body


def parts(token: str) -> list[dict[str, Any]]:
    return [json.loads(urlsafe_b64decode(one + "=" * (-len(one) % 4))) for one in token.split(".")[:2]]
