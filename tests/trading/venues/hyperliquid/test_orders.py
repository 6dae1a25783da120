"""What is sent, what came of it, and that one order stays one whatever the network does."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.errors import Rejected, Retryable, Unknown
from tests import builders as make
from tests.builders import T0, RecordedClock
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.world import KnownKeys
from trading.states import ORDER, OrderState
from trading.venues.base import Prepared, Report, Request, VenueFill
from trading.venues.broker import Ref
from trading.venues.hyperliquid.client import Client
from trading.venues.hyperliquid.markets import Market
from trading.venues.hyperliquid.orders import CANCELED, PENDING, REJECTED, limit_of, order_action
from trading.venues.hyperliquid.wire import is_valid_price

D = Decimal
ACCOUNT = "perps:1"
BUY = Request(
    client_order_id="mx-1",
    account=ACCOUNT,
    symbol="ETH",
    side="buy",
    purpose="open",
    quantity=D("1.5"),
    reference_price=D(2000),
    deadline=T0 + timedelta(minutes=5),
    leverage=D(3),
)
SHORT = replace(BUY, side="sell")
CLOSE = replace(BUY, client_order_id="mx-close", side="sell", purpose="close")
TAKEN = ["lost", "broken_after", "page_after"]
NOT_TAKEN = ["unsent", "broken", "maintenance", "page", "moved", "gone"]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quoted(time: RecordedClock, db: None) -> None:
    make.price("ETH", "2000")
    make.price("BTC", "50000")


def sent(venue: KnownKeys, request: Request = BUY) -> Prepared:
    prepared = venue.prepare(request)
    venue.send(prepared)
    return prepared


def found(venue: KnownKeys, ref: str) -> Report:
    report = venue.find(ref)
    assert report is not None
    return report


def effects(venue: KnownKeys, account: str = ACCOUNT) -> int:
    """How many orders the exchange took."""
    return venue.account(account).effects


def total(fills: tuple[VenueFill, ...]) -> Decimal:
    return sum((fill.quantity for fill in fills), D(0))


def wire_of(prepared: Prepared) -> dict[str, Any]:
    [wire] = json.loads(prepared.payload["action"])["orders"]
    return dict(wire)


# --- the action


@pytest.mark.parametrize(
    ("request_", "side", "price", "reduces"),
    [(BUY, True, "2010", False), (SHORT, False, "1990", False), (CLOSE, False, "1940", True)],
)
def test_an_order_is_ioc_within_the_slippage_and_an_exit_only_reduces(
    venue: KnownKeys, request_: Request, side: bool, price: str, reduces: bool
) -> None:
    prepared = venue.prepare(request_)
    wire = wire_of(prepared)
    assert list(wire) == ["a", "b", "p", "s", "r", "t", "c"]
    assert (wire["a"], wire["b"], wire["p"], wire["s"], wire["r"]) == (1, side, price, "1.5", reduces)
    assert wire["t"] == {"limit": {"tif": "Ioc"}}
    assert list(json.loads(prepared.payload["action"])) == ["type", "orders", "grouping"]
    assert venue.prepare(request_) == prepared


@given(
    st.decimals("0.0001", "99999", places=5),
    st.decimals("0.01", "99999", places=6),
    st.sampled_from(["buy", "sell"]),
)
def test_no_number_becomes_a_float_and_the_limit_is_within_the_slippage(
    quantity: Decimal, price: Decimal, side: str
) -> None:
    market, slippage = Market("ETH", 1, 4), D("0.005")
    request = replace(BUY, quantity=quantity, reference_price=price, side=side)
    limit = limit_of(request, market, slippage)
    [wire] = json.loads(order_action(request, market, limit, None))["orders"]
    assert {type(wire["p"]), type(wire["s"])} == {str}
    assert "E" not in wire["p"] + wire["s"]
    assert D(wire["s"]) <= quantity
    bound = price * (1 + slippage if side == "buy" else 1 - slippage)
    assert limit.price <= bound if side == "buy" else limit.price >= bound
    assert not limit.price or is_valid_price(limit.price, 4)


def test_what_arrives_is_what_was_stored(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    [body] = [one.body for one in fake.requests if one.kind == "order"]
    assert prepared.payload["action"] in body
    told = json.loads(body)
    assert told["nonce"] == prepared.payload["nonce"]
    assert told["expiresAfter"] == int(BUY.deadline.timestamp() * 1000)


def test_a_reference_names_account_order_and_deadline() -> None:
    ref = Ref("a/b", "mx-1", T0)
    assert Ref.parse(str(ref)) == ref


def test_a_reference_that_is_none_of_ours_stops_no_other(venue: KnownKeys) -> None:
    prepared = sent(venue)
    answers = venue.find_many(["mx-elsewhere", prepared.ref])
    assert isinstance(answers["mx-elsewhere"], ValueError)
    assert isinstance(answers[prepared.ref], Report)


# --- margin and leverage


def test_isolated_margin_and_leverage_are_set_before_the_first_entry_and_only_then(
    venue: KnownKeys, fake: Server
) -> None:
    sent(venue)
    assert venue.account(ACCOUNT).leverage == {"ETH": ("isolated", 3)}
    assert [one for one in fake.kinds() if one in ("updateLeverage", "order")] == ["updateLeverage", "order"]
    sent(venue, replace(BUY, client_order_id="mx-2"))
    assert fake.kinds().count("updateLeverage") == 1
    sent(venue, replace(CLOSE, quantity=D(3)))
    assert fake.kinds().count("activeAssetData") == 2


@pytest.mark.parametrize("fault", TAKEN + NOT_TAKEN)
def test_an_order_is_not_sent_before_its_leverage_is_known_to_be_set(
    venue: KnownKeys, fake: Server, fault: str
) -> None:
    fake.misbehaves(fault, "updateLeverage")
    prepared = venue.prepare(BUY)
    with pytest.raises(Retryable):
        venue.send(prepared)
    assert "order" not in fake.kinds()
    venue.send(prepared)
    assert (effects(venue), venue.account(ACCOUNT).leverage) == (1, {"ETH": ("isolated", 3)})


def test_a_short_has_its_margin_leverage_and_liquidation_price(venue: KnownKeys, fake: Server) -> None:
    sent(venue, SHORT)
    state = venue.state(ACCOUNT)
    [position] = state.positions
    assert (position.size, position.leverage, position.isolated) == (D("-1.5"), 3, True)
    assert position.margin_used == 1000
    assert position.liquidation_price is not None
    assert D(2500) < position.liquidation_price < D(2700)
    assert state.cash == 100_000 + 3000 - D("1.35")


# --- one order stays one


@pytest.mark.parametrize("fault", TAKEN)
def test_an_order_whose_answer_was_lost_is_one_order(venue: KnownKeys, fake: Server, fault: str) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "order")
    with pytest.raises(Unknown):
        venue.send(prepared)
    for _ in range(2):
        venue.send(prepared)

    assert effects(venue) == 1
    assert len({one["nonce"] for one in fake.actions("order")}) == 1
    assert found(venue, prepared.ref).state == "filled"


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_an_order_that_did_not_arrive_is_sent_again(venue: KnownKeys, fake: Server, fault: str) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "order")
    with pytest.raises(Unknown):
        venue.send(prepared)
    assert (effects(venue), venue.find(prepared.ref)) == (0, None)

    venue.send(prepared)
    assert (effects(venue), found(venue, prepared.ref).state) == (1, "filled")


def test_an_order_that_is_prepared_again_after_a_crash_keeps_its_nonce(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.misbehaves("lost", "order")
    with pytest.raises(Unknown):
        sent(venue)
    time.move(seconds=30)
    sent(venue)
    assert effects(venue) == 1


def test_a_slow_answer_is_waited_for(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("slow", "order")
    assert found(venue, sent(venue).ref).state == "filled"


def test_an_answer_that_comes_too_late_leaves_the_order_unknown(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(venue, replace(BUY, client_order_id="mx-0"))
    monkeypatch.setattr("trading.venues.hyperliquid.client.TIMEOUT_SECONDS", 0.1)
    venue.client = Client(fake.url)
    with venue.client._http:
        fake.misbehaves("slow", "order")
        prepared = venue.prepare(BUY)
        with pytest.raises(Unknown, match="ReadTimeout"):
            venue.send(prepared)
        assert found(venue, prepared.ref).state == "filled"


def test_a_status_of_tomorrow_leaves_the_order_unknown(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("word", "order")
    prepared = venue.prepare(BUY)
    with pytest.raises(Unknown, match="is not known"):
        venue.send(prepared)
    assert found(venue, prepared.ref).state == "filled"


@pytest.mark.parametrize("taken", [True, False])
def test_a_duplicate_nonce_proves_that_it_arrived_and_not_what_became_of_it(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Another worker sent it first. It is not found: not yet, or because it was refused and such are not kept."""
    fake.exchange.records_refused = False
    prepared = venue.prepare(BUY if taken else replace(BUY, quantity=D("0.004")))
    fake.misbehaves("lost", "order")
    with pytest.raises(Unknown):
        venue.send(prepared)
    with monkeypatch.context() as lag:
        lag.setattr(fake.exchange, "_info_orderStatus", lambda ask: {"status": "unknownOid"})
        with pytest.raises(Unknown, match="had the order mx-1 before"):
            venue.send(prepared)
    assert effects(venue) == int(taken)
    report = venue.find(prepared.ref)
    assert (report.state if report else "") == ("filled" if taken else "")


def test_a_refusal_of_a_repeat_does_not_undo_what_arrived_before(venue: KnownKeys, fake: Server) -> None:
    """The agent expired after the first arrived."""
    fake.misbehaves("lost", "order")
    prepared = venue.prepare(BUY)
    with pytest.raises(Unknown):
        venue.send(prepared)
    venue.account(ACCOUNT).agents.clear()
    venue.send(prepared)
    fake.misbehaves("maintenance", "orderStatus")
    with pytest.raises(Unknown, match="cannot be looked up"):
        venue.send(prepared)
    with pytest.raises(Rejected) as refusal:
        sent(venue, replace(BUY, client_order_id="mx-2"))
    assert refusal.value.code == "credentials_refused"


def test_the_hundred_highest_nonces_are_remembered(venue: KnownKeys, fake: Server) -> None:
    prepared = venue.prepare(BUY)
    for number in range(1, 60):
        sent(venue, replace(BUY, client_order_id=f"mx-{number}-x", quantity=D("0.01")))
    venue.send(prepared)
    venue.send(prepared)
    assert effects(venue) == 60


def test_an_order_is_not_sent_after_its_deadline(venue: KnownKeys, fake: Server, time: RecordedClock) -> None:
    prepared = venue.prepare(BUY)
    time.to(BUY.deadline)
    with pytest.raises(Rejected) as refusal:
        venue.send(prepared)
    assert (refusal.value.code, effects(venue)) == ("deadline_passed", 0)


def test_an_action_that_arrives_after_its_deadline_is_refused_there(venue: KnownKeys, fake: Server) -> None:
    sent(venue, replace(BUY, client_order_id="mx-0"))
    fake.exchange.skew = timedelta(minutes=6)
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert (refusal.value.code, effects(venue)) == ("deadline_passed", 1)


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (replace(BUY, quantity=D(40), leverage=D(1)), ""),
        (replace(BUY, quantity=D("0.004")), "below_minimum"),
        (replace(BUY, quantity=D("0.00001")), "below_minimum"),
        (CLOSE, "no_position"),
    ],
)
def test_a_refusal_has_our_reason(
    venue: KnownKeys, fake: Server, request_: Request, code: str, records: bool
) -> None:
    fake.exchange.records_refused = records
    if not code:
        sent(venue, request_)
        return
    with pytest.raises(Rejected) as refusal:
        sent(venue, request_)
    assert refusal.value.code == code


def test_what_the_margin_does_not_cover_is_refused(venue: KnownKeys) -> None:
    venue.account(ACCOUNT).cash = D(900)
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == "insufficient_balance"
    assert effects(venue) == 0


def test_a_book_beyond_the_limit_is_not_matched(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.price("ETH", "2020")
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == "not_matched"
    ref = str(Ref(ACCOUNT, "mx-1", BUY.deadline))
    assert found(venue, ref) == Report("rejected", (), "not_matched")


def test_a_refused_order_stops_no_other(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}", quantity=D("0.1"))) for n in range(6)]
    orders[3] = venue.prepare(replace(BUY, client_order_id="mx-bad", quantity=D("0.004")))
    errors = venue.send_many(orders)
    assert list(errors) == [orders[3].ref]
    assert effects(venue) == 5


# --- rate limits


def test_a_rate_limit_rests_all_requests_of_the_process(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.misbehaves("limited", "orderStatus")
    prepared = sent(venue)
    with pytest.raises(Retryable) as limited:
        venue.find(prepared.ref)
    assert limited.value.limited
    asked = len(fake.requests)
    with pytest.raises(Retryable, match="used up for 10 s"):
        venue.find(prepared.ref)
    assert len(fake.requests) == asked
    time.move(seconds=11)
    assert found(venue, prepared.ref).state == "filled"


def test_an_address_that_used_up_its_requests_is_tried_again_later(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("many", "order")
    prepared = venue.prepare(BUY)
    with pytest.raises(Retryable) as limited:
        venue.send(prepared)
    assert (limited.value.limited, effects(venue)) == (True, 0)
    venue.send(prepared)
    assert effects(venue) == 1


def test_reads_leave_weight_of_the_minute_to_orders(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    prepared = sent(venue)
    for _ in range(38):
        venue.client.info_list("extraAgents", user="0x")
    with pytest.raises(Retryable, match="weight used in this minute"):
        venue.client.info_list("extraAgents", user="0x")
    asked = len(fake.requests)
    assert asked < 60
    with pytest.raises(Retryable):
        venue.find(prepared.ref)
    closing = venue.prepare(CLOSE)
    venue.send(closing)
    time.move(seconds=61)
    assert found(venue, closing.ref).state == "filled"


# --- where an order stands


@pytest.mark.parametrize("word", sorted({*PENDING, *CANCELED, *REJECTED, "filled", "aWordOfTomorrow"}))
@pytest.mark.parametrize("filled", ["0", "0.5"])
def test_every_status_is_a_state_of_ours_and_an_unknown_one_is_pending(
    venue: KnownKeys, fake: Server, word: str, filled: str
) -> None:
    fake.exchange.depth, fake.exchange.levels = (D(filled), 1) if D(filled) else (D(2), 1)
    prepared = sent(venue)
    account = venue.account(ACCOUNT)
    [order] = account.orders
    if not D(filled):
        account.fills.clear()
        order["order"]["sz"] = "1.5"
    order["status"] = word
    report = found(venue, prepared.ref)

    assert report.state in ORDER[OrderState.SENDING]
    assert total(report.fills) == D(filled)
    if word in {*PENDING, "aWordOfTomorrow"}:
        assert report.state == ("partially_filled" if D(filled) else "accepted")
    elif word == "filled":  # not all of its fills are shown, or the rest was canceled
        assert report.state == ("canceled" if D(filled) else "accepted")
    elif word in CANCELED or D(filled):
        assert report.state == "canceled"
    else:
        assert (report.state, report.reason) == ("rejected", REJECTED[word])


def test_an_order_that_the_book_fills_in_part_is_canceled_with_its_fills(
    venue: KnownKeys, fake: Server
) -> None:
    fake.exchange.depth, fake.exchange.levels = D("0.25"), 3
    report = found(venue, sent(venue).ref)
    assert (report.state, [fill.quantity for fill in report.fills]) == ("canceled", [D("0.25")] * 3)


def test_an_order_has_ended_only_when_all_its_fills_are_seen(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.exchange.depth = D("0.5")
    prepared = sent(venue)
    states = []
    for shown in (0, 1, 2, None):
        fake.exchange.shown = shown
        report = found(venue, prepared.ref)
        states.append((report.state, total(report.fills)))
    assert states == [
        ("accepted", 0),
        ("partially_filled", D("0.5")),
        ("partially_filled", D(1)),
        ("filled", D("1.5")),
    ]
    fake.exchange.shown = 2
    time.move(minutes=11)
    assert found(venue, prepared.ref).state == "canceled"


def test_fees_are_the_venues_and_ours_apart(fake: Server) -> None:
    builder = "0x" + "b0" * 20
    venue = KnownKeys(fake, builder={"address": builder, "tenths_of_bp": 50})
    account = venue.account(ACCOUNT)
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == "builder_fee_not_approved"
    account.builders[builder] = 50
    [fill] = found(venue, sent(venue, replace(BUY, client_order_id="mx-2")).ref).fills
    assert (fill.cash, fill.fee, fill.platform_fee) == (3000, D("1.35"), D("1.5"))
    assert account.cash == 100_000 - 3000 - D("2.85")
    assert json.loads(fake.requests[-3].body)["action"]["builder"] == {"b": builder, "f": 50}


def test_without_a_builder_the_venue_collects_no_fee_for_the_platform(venue: KnownKeys) -> None:
    [fill] = found(venue, sent(venue).ref).fills
    assert (fill.platform_fee, fill.profit_share) == (None, None)


def test_what_may_still_execute_at_the_deadline_is_canceled(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.exchange.depth, fake.exchange.levels = D("0.5"), 1
    prepared = sent(venue)
    [order] = venue.account(ACCOUNT).orders
    order["status"] = "open"
    time.to(BUY.deadline - timedelta(seconds=1))
    assert found(venue, prepared.ref).state == "partially_filled"
    time.to(BUY.deadline)
    venue.find(prepared.ref)
    assert found(venue, prepared.ref).state == "canceled"
    venue.cancel(prepared.ref)
    assert fake.kinds().count("cancelByCloid") == 1


@pytest.mark.parametrize("fault", ["gone", "maintenance", "page", "limited", "unsent", "broken"])
def test_an_answer_that_is_not_hyperliquids_does_not_make_an_order_absent(
    venue: KnownKeys, fake: Server, fault: str
) -> None:
    prepared = sent(venue)
    fake.misbehaves(fault, "orderStatus")
    with pytest.raises(Retryable):
        venue.find(prepared.ref)


@pytest.mark.parametrize("hours", [-2, 2])
def test_an_exchange_whose_clock_is_wrong_loses_no_fill(venue: KnownKeys, fake: Server, hours: int) -> None:
    venue.account(ACCOUNT)
    fake.exchange.skew = timedelta(hours=hours)
    prepared = venue.prepare(replace(BUY, deadline=T0 + timedelta(hours=6)))
    venue.send(prepared)
    assert found(venue, prepared.ref).state == "filled"


# --- many at once


def test_many_orders_of_an_account_share_one_page_of_fills(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}", quantity=D("0.1"))) for n in range(20)]
    assert venue.send_many(orders) == {}
    fake.requests.clear()
    answers = venue.find_many([order.ref for order in orders])
    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert sorted(set(fake.kinds())) == ["orderStatus", "userFillsByTime"]
    assert fake.kinds().count("userFillsByTime") == 1


def test_fills_on_several_pages_are_all_read(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    monkeypatch.setattr("trading.venues.hyperliquid.reader.FILL_PAGE", 3)
    real = fake.exchange._info_userFillsByTime
    monkeypatch.setattr(fake.exchange, "_info_userFillsByTime", lambda ask: real(ask)[:3])
    prepared = sent(venue, replace(BUY, quantity=D("0.1")))
    for number in range(2, 9):
        time.move(seconds=1)
        make.price("ETH", "2000")
        sent(venue, replace(BUY, client_order_id=f"mx-{number}", quantity=D("0.1")))
    refs = [prepared.ref, *(str(Ref(ACCOUNT, f"mx-{n}", BUY.deadline)) for n in range(2, 9))]
    answers = venue.find_many(refs)
    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}


def test_an_account_that_is_not_read_hides_no_other(venue: KnownKeys, fake: Server) -> None:
    refs = [sent(venue, replace(BUY, account=f"perps:{n}")).ref for n in range(4)]
    fake.misbehaves("maintenance", "orderStatus")
    answers = venue.find_many(refs)
    assert sum(isinstance(answer, Retryable) for answer in answers.values()) == 1
    assert sum(isinstance(answer, Report) for answer in answers.values()) == 3
