"""Hyperliquid: its own SDK completes its life against the fake exchange, and signs the actions that we sign."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils import signing
from hyperliquid.utils.error import ClientError, ServerError
from hyperliquid.utils.types import Cloid

from tests.conformance.conftest import Fakes

BUILDER = "0x" + "b0" * 20
IOC: Any = {"limit": {"tif": "Ioc"}}
GTC: Any = {"limit": {"tif": "Gtc"}}
LIFE = {
    f"/info {kind}"
    for kind in (
        "meta", "metaAndAssetCtxs", "spotMeta", "allMids", "l2Book", "clearinghouseState", "openOrders",
        "frontendOpenOrders", "historicalOrders", "userFills", "userFillsByTime", "userFunding",
        "userNonFundingLedgerUpdates", "orderStatus", "extraAgents", "userAbstraction", "userRole", "userRateLimit",
        "activeAssetData", "maxBuilderFee",
    )
} | {
    f"/exchange {kind}"
    for kind in (
        "order", "cancel", "cancelByCloid", "batchModify", "updateLeverage", "updateIsolatedMargin", "scheduleCancel",
        "approveAgent", "approveBuilderFee", "withdraw3",
    )
}  # fmt: skip
"""What the SDK asks in this file; docs/conformance.md lists the same."""
SEEN: set[str] = set()


@pytest.fixture
def account(fakes: Fakes) -> dict[str, str]:
    """An account with 100,000 USDC and an agent; ETH costs 2,000 USD, BTC 50,000."""
    opened: dict[str, str] = fakes.hyperliquid_opens(name="conformance")
    return opened


@pytest.fixture
def info(fakes: Fakes, account: dict[str, str]) -> Info:
    return Info(fakes.urls["hyperliquid"], skip_ws=True)


@pytest.fixture
def exchange(fakes: Fakes, account: dict[str, str]) -> Exchange:
    """The SDK with the agent's key."""
    wallet = Account.from_key(account["agent"])
    return Exchange(wallet, fakes.urls["hyperliquid"], account_address=account["address"])


@pytest.fixture(scope="module", autouse=True)
def life(fakes: Fakes) -> Iterator[None]:
    """Check at the end that every type was asked, and no other."""
    fakes.hyperliquid_kinds()
    yield
    assert SEEN == LIFE


@pytest.fixture(autouse=True)
def kept(fakes: Fakes) -> Iterator[None]:
    """Keep what a test asked, because the next one starts with a fresh fake."""
    yield
    SEEN.update(fakes.hyperliquid_kinds())


def status_of(answer: Any) -> Any:
    assert answer["status"] == "ok", answer
    [status] = answer["response"]["data"]["statuses"]
    return status


def test_a_market_order_is_filled_found_and_closed(
    info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    cloid, user = Cloid.from_str("0x" + "0" * 31 + "1"), account["address"]
    opened = status_of(exchange.market_open("ETH", True, 0.4, cloid=cloid))["filled"]
    assert (opened["totalSz"], opened["avgPx"]) == ("0.4", "2000")
    found = info.query_order_by_cloid(user, cloid)
    assert found == info.query_order_by_oid(user, opened["oid"])
    assert (found["status"], found["order"]["status"]) == ("order", "filled")
    assert (found["order"]["order"]["origSz"], found["order"]["order"]["sz"]) == ("0.4", "0")
    [fill] = info.user_fills(user)
    assert [fill] == info.user_fills_by_time(user, fill["time"])
    assert (fill["oid"], fill["fee"], fill["closedPnl"]) == (opened["oid"], "0.360000", "0.000000")
    [row] = info.user_state(user)["assetPositions"]
    assert (row["position"]["coin"], row["position"]["szi"]) == ("ETH", "0.4")
    closed = status_of(exchange.market_close("ETH"))["filled"]
    assert closed["totalSz"] == "0.4"
    assert info.user_state(user)["assetPositions"] == []


def test_cash_and_positions_add_up_to_the_account_value(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    """The identity that our ledger rests on (ADR 30), with isolated and cross margin, long and short."""
    assert exchange.update_leverage(5, "ETH", is_cross=False)["status"] == "ok"
    status_of(exchange.market_open("ETH", False, 0.4))
    status_of(exchange.market_open("BTC", True, 0.01))
    assert exchange.update_isolated_margin(10, "ETH")["status"] == "ok"
    fakes.hyperliquid_price(coin="ETH", usd="2100")
    state = info.user_state(account["address"])
    rows = [row["position"] for row in state["assetPositions"]]
    worth = sum(Decimal(row["positionValue"]) * (1 if Decimal(row["szi"]) > 0 else -1) for row in rows)
    summary = state["marginSummary"]
    assert Decimal(summary["totalRawUsd"]) + worth == Decimal(summary["accountValue"])
    assert {row["coin"]: row["leverage"]["type"] for row in rows} == {"ETH": "isolated", "BTC": "cross"}


def test_orders_rest_are_changed_and_canceled(
    info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    user, cloid = account["address"], Cloid.from_str("0x" + "0" * 31 + "2")
    resting = status_of(exchange.order("ETH", True, 0.4, 1800, GTC))["resting"]
    assert [row["oid"] for row in info.open_orders(user)] == [resting["oid"]]
    assert [row["oid"] for row in info.frontend_open_orders(user)] == [resting["oid"]]
    moved = status_of(exchange.modify_order(resting["oid"], "ETH", True, 0.4, 1810, GTC, cloid=cloid))
    assert moved["resting"]["cloid"] == cloid.to_raw()
    assert status_of(exchange.cancel_by_cloid("ETH", cloid)) == "success"
    other = status_of(exchange.order("ETH", True, 0.4, 1800, GTC))["resting"]
    assert status_of(exchange.cancel("ETH", other["oid"])) == "success"
    assert "already canceled" in status_of(exchange.cancel("ETH", other["oid"]))["error"]
    assert {row["status"] for row in info.historical_orders(user)} == {"canceled"}
    stop: Any = {"trigger": {"triggerPx": 1900, "isMarket": True, "tpsl": "sl"}}
    status_of(exchange.market_open("ETH", True, 0.4))
    assert status_of(exchange.order("ETH", False, 0.4, 1900, stop, reduce_only=True)) == "waitingForTrigger"
    assert exchange.schedule_cancel(signing.get_timestamp_ms() + 60_000)["status"] == "ok"
    assert exchange.schedule_cancel(signing.get_timestamp_ms())["status"] == "err"


@pytest.mark.parametrize(
    ("order", "error"),
    [
        (("ETH", True, 0.004, 2000, IOC), "minimum value of $10"),
        (("ETH", True, 0.4, 2000.123, IOC), "divisible by tick size"),
        (("ETH", True, 5000, 2000, IOC), "Insufficient margin"),
        (("ETH", False, 0.4, 2000, IOC, True), "Reduce only order would increase position"),
        (("ETH", True, 0.4, 1900, IOC), "could not immediately match"),
    ],
)
def test_refused_orders_have_an_error_and_http_200(exchange: Exchange, order: Any, error: str) -> None:
    assert error in status_of(exchange.order(*order))["error"]


def test_agents_are_approved_and_expire_and_cannot_withdraw(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    main = Exchange(Account.from_key(account["main"]), fakes.urls["hyperliquid"])
    assert main.update_leverage(3, "ETH")["status"] == "ok"
    answer, key = main.approve_agent("second")
    assert answer["status"] == "ok"
    agents = info.extra_agents(account["address"])
    assert [row["name"] for row in agents] == ["maxxit", "second"]
    assert info.user_role(agents[1]["address"])["data"]["user"] == account["address"]
    second = Exchange(Account.from_key(key), fakes.urls["hyperliquid"], account_address=account["address"])
    assert status_of(second.market_open("ETH", True, 0.1))["filled"]
    refused = second.withdraw_from_bridge(10, account["address"])
    assert (refused["status"], "does not exist" in refused["response"]) == ("err", True)
    assert main.withdraw_from_bridge(10, account["address"])["status"] == "ok"
    [row] = info.user_non_funding_ledger_updates(account["address"], 0)
    assert row["delta"]["type"] == "withdraw"
    stranger = Exchange(Account.create(), fakes.urls["hyperliquid"], account_address=account["address"])
    assert "does not exist" in stranger.update_leverage(3, "ETH")["response"]
    assert info.query_user_abstraction_state(account["address"]) == "disabled"


def test_a_builder_fee_needs_the_owners_approval(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    builder: Any = {"b": BUILDER, "f": 50}
    refused = exchange.market_open("ETH", True, 0.4, builder=builder)
    assert "has not been approved" in refused["response"]
    main = Exchange(Account.from_key(account["main"]), fakes.urls["hyperliquid"])
    assert main.approve_builder_fee(BUILDER, "0.05%")["status"] == "ok"
    assert info.post("/info", {"type": "maxBuilderFee", "user": account["address"], "builder": BUILDER}) == 50
    status_of(exchange.market_open("ETH", True, 0.4, builder=builder))
    [fill] = info.user_fills(account["address"])
    assert (fill["builderFee"], fill["fee"]) == ("0.400000", "0.760000")


def test_a_repeated_nonce_is_refused_and_an_expired_action_too(
    fakes: Fakes, exchange: Exchange, account: dict[str, str]
) -> None:
    action = {"type": "updateLeverage", "asset": 1, "isCross": True, "leverage": 7}
    now = signing.get_timestamp_ms()
    for answered in ("ok", "err"):
        signature = signing.sign_l1_action(exchange.wallet, action, None, now, None, False)
        answer = exchange._post_action(action, signature, now)
        assert answer["status"] == answered
    assert answer["response"] == f"Invalid nonce: duplicate nonce {now}"
    exchange.set_expires_after(now - 1)
    assert "expired" in exchange.update_leverage(7, "ETH")["response"]


def test_an_entry_with_stop_and_target(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    stop, target = "0x" + "0" * 31 + "5", "0x" + "0" * 31 + "6"
    orders: Any = [
        {"coin": "ETH", "is_buy": True, "sz": 0.4, "limit_px": 2010.0, "order_type": IOC, "reduce_only": False},
        {
            "coin": "ETH", "is_buy": False, "sz": 0.4, "limit_px": 2231.0, "reduce_only": True,
            "order_type": {"trigger": {"triggerPx": 2300, "isMarket": True, "tpsl": "tp"}},
            "cloid": Cloid.from_str(target),
        },
        {
            "coin": "ETH", "is_buy": False, "sz": 0.4, "limit_px": 1843.0, "reduce_only": True,
            "order_type": {"trigger": {"triggerPx": 1900, "isMarket": True, "tpsl": "sl"}},
            "cloid": Cloid.from_str(stop),
        },
    ]  # fmt: skip
    answer = exchange.bulk_orders(orders, grouping="normalTpsl")
    statuses = answer["response"]["data"]["statuses"]
    assert (statuses[0]["filled"]["totalSz"], statuses[1:]) == ("0.4", ["waitingForTrigger"] * 2)
    fakes.hyperliquid_price(coin="ETH", usd="1890")
    found = [
        info.query_order_by_cloid(account["address"], Cloid.from_str(one))["order"]["status"]
        for one in (stop, target)
    ]
    assert found == ["filled", "siblingFilledCanceled"]
    assert info.user_state(account["address"])["assetPositions"] == []


def test_funding_and_liquidation_are_read(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str]
) -> None:
    user = account["address"]
    status_of(exchange.market_open("ETH", True, 0.4))
    fakes.hyperliquid_pays(address=user, coin="ETH", usdc="-0.25")
    [row] = info.user_funding_history(user, 0)
    assert (row["delta"]["coin"], row["delta"]["usdc"]) == ("ETH", "-0.25")
    fakes.hyperliquid_liquidates(address=user, coin="ETH", usd="1900")
    fill = info.user_fills(user)[0]
    assert fill["liquidation"]["liquidatedUser"] == user


def test_what_is_listed_and_what_it_costs(fakes: Fakes, info: Info, account: dict[str, str]) -> None:
    assert (info.name_to_asset("ETH"), info.asset_to_sz_decimals[1]) == (1, 4)
    assert info.all_mids()["ETH"] == "2000"
    bids, asks = info.l2_snapshot("ETH")["levels"]
    assert bids[0]["px"] == asks[0]["px"] == "2000"
    assert info.user_rate_limit(account["address"])["nRequestsCap"] == 10_000
    data = info.post("/info", {"type": "activeAssetData", "user": account["address"], "coin": "ETH"})
    assert data["leverage"] == {"type": "cross", "value": 20}
    meta, contexts = info.meta_and_asset_ctxs()
    assert len(meta["universe"]) == len(contexts)
    assert Decimal(contexts[1]["funding"]) == Decimal("0.0000125")


def test_errors_are_its_errors(fakes: Fakes, info: Info, account: dict[str, str]) -> None:
    fakes.hyperliquid_fault(name="broken", kind="allMids")
    with pytest.raises(ServerError):
        info.all_mids()
    for fault, status in (("limited", 429), ("refused", 422)):
        fakes.hyperliquid_fault(name=fault, kind="allMids")
        with pytest.raises((ClientError, AttributeError, TypeError)) as caught:
            info.all_mids()
        if isinstance(caught.value, ClientError):
            assert caught.value.status_code == status


@pytest.mark.parametrize(("side", "purpose"), [("buy", "open"), ("sell", "open"), ("sell", "close")])
def test_our_actions_are_the_ones_that_it_signs(
    fakes: Fakes, info: Info, exchange: Exchange, account: dict[str, str], side: str, purpose: str
) -> None:
    """The same action, nonce and expiry give the same signature; the other requests are the SDK's, too."""
    main = Exchange(Account.from_key(account["main"]), fakes.urls["hyperliquid"])
    main.approve_builder_fee(BUILDER, "0.05%")
    if purpose == "close":
        status_of(exchange.market_open("ETH", side == "sell", 0.4))
    ours = fakes.hyperliquid_ours(name="conformance", side=side, purpose=purpose, builder=BUILDER)
    actions = [one["body"] for one in ours if one["path"] == "/exchange"]
    kinds = [one["action"]["type"] for one in actions]
    assert kinds == (["order"] if purpose == "close" else ["updateLeverage", "order"])
    [wire] = actions[-1]["action"]["orders"]
    request: Any = {
        "coin": "ETH", "is_buy": side == "buy", "sz": 0.4, "limit_px": float(wire["p"]), "order_type": IOC,
        "reduce_only": purpose == "close", "cloid": Cloid.from_str(wire["c"]),
    }  # fmt: skip
    theirs: Any = signing.order_wires_to_order_action(
        [signing.order_request_to_order_wire(request, info.name_to_asset("ETH"))], {"b": BUILDER, "f": 50}
    )
    assert actions[-1]["action"] == theirs
    for body in actions:
        signed = signing.sign_l1_action(
            exchange.wallet, body["action"], None, body["nonce"], body["expiresAfter"], False
        )
        assert {name: int(str(value), 0) for name, value in signed.items()} == {
            name: int(str(value), 0) for name, value in body["signature"].items()
        }
        assert set(body) == {"action", "nonce", "signature", "vaultAddress", "expiresAfter"}
    reads = {one["kind"] for one in ours if one["path"] == "/info"}
    assert {f"/info {kind}" for kind in reads} <= LIFE
