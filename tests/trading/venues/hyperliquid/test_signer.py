"""What the process that signs refuses, whatever an order row says."""

import json
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.test_orders import ACCOUNT, BUY, CLOSE
from tests.trading.venues.hyperliquid.world import KnownKeys, keys_of
from trading.venues.base import Prepared
from trading.venues.hyperliquid.markets import Market
from trading.venues.hyperliquid.signer import Signer, SignerPolicy, SigningFacts, check
from trading.venues.hyperliquid.wire import Builder

D = Decimal
POLICY = SignerPolicy(
    markets={1: Market("ETH", 1, 4)},
    price_band=D("0.015"),
    exit_band=D("0.1"),
    max_leverage=5,
    daily_notional_usd=D(10_000),
    builder=None,
)
FACTS = SigningFacts({"ETH": D(2000)}, D(3000))
ORDER = {
    "type": "order",
    "orders": [
        {
            "a": 1,
            "b": True,
            "p": "2010",
            "s": "1.5",
            "r": False,
            "t": {"limit": {"tif": "Ioc"}},
            "c": "0x" + "1" * 32,
        }
    ],
    "grouping": "na",
}
LEVERAGE = {"type": "updateLeverage", "asset": 1, "isCross": False, "leverage": 5}


def changed(**order: Any) -> dict[str, Any]:
    """The order with other members."""
    action = deepcopy(ORDER)
    action["orders"][0] |= order  # type: ignore[index, operator]
    return action


LEG = {
    "a": 1, "b": False, "p": "1850", "s": "1.5", "r": True,
    "t": {"trigger": {"isMarket": True, "triggerPx": "1900", "tpsl": "sl"}}, "c": "0x" + "2" * 32,
}  # fmt: skip


def with_leg(**leg: Any) -> dict[str, Any]:
    """The order with a stop that Hyperliquid keeps."""
    return {**ORDER, "orders": [*ORDER["orders"], LEG | leg], "grouping": "normalTpsl"}


def code_of(action: Any, policy: SignerPolicy = POLICY, facts: SigningFacts = FACTS) -> str:
    try:
        check(action, policy, facts)
    except Rejected as rejection:
        return rejection.code
    return ""


def test_what_the_policy_allows_is_signed() -> None:
    assert code_of(ORDER) == code_of(LEVERAGE) == code_of(changed(r=True, p="1900")) == ""
    assert code_of(with_leg()) == ""
    assert code_of({"type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": "0x1"}]}) == ""


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (changed(a=2), "signer_market"),
        (changed(a="1"), "signer_market"),
        (changed(p="2031"), "signer_price_band"),
        (changed(p="1969"), "signer_price_band"),
        (changed(r=True, p="1799"), "signer_price_band"),
        (changed(t={"limit": {"tif": "Gtc"}}), "signer_action"),
        (changed(t={"trigger": {"isMarket": True, "triggerPx": "1", "tpsl": "sl"}}), "signer_action"),
        (with_leg(r=False), "signer_action"),
        (with_leg(b=True), "signer_action"),
        (with_leg(s="3"), "signer_action"),
        (with_leg(a=2), "signer_action"),
        (with_leg(p="1500"), "signer_price_band"),
        (with_leg(t={"trigger": {"isMarket": False, "triggerPx": "1900", "tpsl": "sl"}}), "signer_action"),
        (with_leg(t={"limit": {"tif": "Gtc"}}), "signer_action"),
        (with_leg(p="1850.1234"), "signer_action"),
        (with_leg() | {"grouping": "positionTpsl"}, "signer_action"),
        (with_leg() | {"grouping": "na"}, "signer_action"),
        (with_leg() | {"orders": [*with_leg()["orders"], LEG, LEG]}, "signer_action"),
        (changed(p="2010.123"), "signer_action"),
        (changed(s="1.50001"), "signer_action"),
        (changed(s="0"), "below_minimum"),
        (ORDER | {"orders": [*ORDER["orders"], *ORDER["orders"]]}, "signer_action"),
        (ORDER | {"orders": []}, "signer_action"),
        (ORDER | {"grouping": "normalTpsl"}, "signer_action"),
        (ORDER | {"builder": {"b": "0x" + "e" * 40, "f": 100}}, "signer_action"),
        (LEVERAGE | {"isCross": True}, "signer_leverage"),
        (LEVERAGE | {"leverage": 6}, "signer_leverage"),
        (LEVERAGE | {"asset": 7}, "signer_market"),
        ({"type": "cancelByCloid", "cancels": [{"asset": 3, "cloid": "0x1"}]}, "signer_market"),
        ({"type": "withdraw3", "amount": "1"}, "signer_action"),
        ({"type": "usdSend", "amount": "1"}, "signer_action"),
        ({"type": "vaultTransfer", "usd": 1}, "signer_action"),
        ({"type": "spotSend"}, "signer_action"),
        ({}, "signer_action"),
    ],
)
def test_what_it_does_not_allow_is_refused_with_its_reason(action: Any, code: str) -> None:
    assert code_of(action) == code


def test_an_entry_needs_a_quote_and_an_exit_does_not() -> None:
    without = SigningFacts({})
    assert code_of(ORDER, facts=without) == "signer_price_band"
    assert code_of(changed(r=True, p="100"), facts=without) == ""


def test_the_notional_of_a_day_bounds_entries_only() -> None:
    full = replace(FACTS, notional_today_usd=D("10000.01"))
    assert code_of(ORDER, facts=full) == "signer_daily_notional"
    assert code_of(ORDER, facts=replace(FACTS, notional_today_usd=D(10_000))) == ""
    assert code_of(changed(r=True), facts=full) == ""


def test_only_the_configured_builder_is_paid() -> None:
    policy = replace(POLICY, builder=Builder("0x" + "b" * 40, 50))
    assert code_of(ORDER, policy) == "signer_action"
    assert code_of(ORDER | {"builder": {"b": "0x" + "b" * 40, "f": 50}}, policy) == ""
    for wrong in ({"b": "0x" + "e" * 40, "f": 50}, {"b": "0x" + "b" * 40, "f": 51}):
        assert code_of(ORDER | {"builder": wrong}, policy) == "signer_action"


@given(
    price=st.decimals("0.01", "9999", places=2),
    size=st.decimals("0.0001", "50", places=4),
    asset=st.integers(-1, 3),
    reduces=st.booleans(),
    today=st.decimals("0", "20000", places=2),
)
def test_nothing_is_signed_beyond_the_bounds(
    price: Decimal, size: Decimal, asset: int, reduces: bool, today: Decimal
) -> None:
    facts = SigningFacts({"ETH": D(2000)}, today)
    if code_of(changed(p=str(price), s=str(size), a=asset, r=reduces), facts=facts) == "":
        assert asset == 1
        assert abs(price - 2000) <= 2000 * (D("0.1") if reduces else D("0.015"))
        assert reduces or today <= 10_000


def test_the_same_action_has_the_same_signature_and_what_is_refused_has_none() -> None:
    signer, keys = Signer(POLICY, mainnet=False), keys_of("signer")
    bodies = {signer.body(keys, json.dumps(ORDER), 7, T0, FACTS) for _ in range(2)}
    assert len(bodies) == 1
    with pytest.raises(Rejected):
        signer.body(keys, json.dumps(changed(a=9)), 7, T0, FACTS)
    assert keys.agent_key not in f"{bodies} {keys!r}"


# --- in the adapter


@pytest.fixture(autouse=True)
def quoted(time: RecordedClock, db: None) -> None:
    make.price("ETH", "2000")


@pytest.mark.django_db
def test_a_stored_order_that_was_tampered_with_is_not_signed(venue: KnownKeys, fake: Server) -> None:
    prepared = venue.prepare(BUY)
    for old, new in (('"s":"1.5"', '"s":"150000"'), ('"a":1', '"a":2'), ('"p":"2010"', '"p":"4000"')):
        action = prepared.payload["action"].replace(old, new)
        changed_ = Prepared(prepared.ref, {**prepared.payload, "action": action})
        if new == '"s":"150000"':  # the size is bounded by the money in the account
            continue
        with pytest.raises(Rejected) as refusal:
            venue.send(changed_)
        assert refusal.value.code.startswith("signer_")
    assert "order" not in fake.kinds()


@pytest.mark.django_db
def test_the_day_is_used_up_and_exits_still_go(fake: Server) -> None:
    venue = KnownKeys(fake, daily_notional_usd=5_000)
    venue.send(venue.prepare(BUY))
    with pytest.raises(Rejected) as refusal:
        venue.send(venue.prepare(replace(BUY, client_order_id="mx-2")))
    assert refusal.value.code == "signer_daily_notional"
    venue.send(venue.prepare(CLOSE))
    assert venue.account(ACCOUNT).held == {}


@pytest.mark.django_db
def test_more_leverage_than_the_stanza_allows_is_not_set(fake: Server) -> None:
    venue = KnownKeys(fake, max_leverage=D(2))
    with pytest.raises(Rejected) as refusal:
        venue.send(venue.prepare(BUY))
    assert (refusal.value.code, venue.account(ACCOUNT).leverage) == ("signer_leverage", {})


@pytest.mark.django_db
@pytest.mark.parametrize("quote", [None, "2100"])
def test_an_entry_far_from_our_quote_is_not_sent(venue: KnownKeys, fake: Server, quote: str | None) -> None:
    prepared = venue.prepare(BUY)
    make.Quote.objects.all().delete()
    if quote:
        make.price("ETH", quote)
    with pytest.raises(Rejected) as refusal:
        venue.send(prepared)
    assert (refusal.value.code, fake.kinds()) == ("signer_price_band", [])
