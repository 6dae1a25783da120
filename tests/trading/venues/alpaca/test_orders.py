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
from tests.builders import T0, RecordedClock
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.world import KnownKeys
from trading.states import ORDER, OrderState
from trading.venues.alpaca.client import RESERVED, Client
from trading.venues.alpaca.orders import ENDED, PENDING
from trading.venues.alpaca.terms import OrderOptions, terms_of
from trading.venues.base import Prepared, Report, Request, VenueFill
from trading.venues.broker import Ref

D = Decimal
ACCOUNT = "alpaca:1"
BUY = Request(
    client_order_id="mx-1",
    account=ACCOUNT,
    symbol="AAPL",
    side="buy",
    purpose="open",
    quantity=D("1.5"),
    reference_price=D(200),
    deadline=T0 + timedelta(minutes=5),
)
COIN = replace(BUY, symbol="BTC", quantity=D("0.1"))
TAKEN = ["lost", "broken_after"]
NOT_TAKEN = ["unsent", "broken", "maintenance", "page", "moved"]


def sent(venue: KnownKeys, request: Request = BUY) -> Prepared:
    prepared = venue.prepare(request)
    venue.send(prepared)
    return prepared


def found(venue: KnownKeys, ref: str) -> Report:
    report = venue.find(ref)
    assert report is not None
    return report


def effects(fake: Server, account: str = ACCOUNT) -> int:
    """How many orders the broker took."""
    return fake.broker.account(account).effects


def total(fills: tuple[VenueFill, ...]) -> Decimal:
    return sum((fill.quantity for fill in fills), D(0))


# --- the body


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (BUY, {"symbol": "AAPL", "qty": "1.5", "side": "buy", "type": "market", "time_in_force": "day"}),
        (COIN, {"symbol": "BTC/USD", "qty": "0.1", "side": "buy", "type": "market", "time_in_force": "ioc"}),
    ],
)
def test_a_market_order_has_strings_only_and_our_id(venue: KnownKeys, request_: Request, body: Any) -> None:
    prepared = venue.prepare(request_)
    assert json.loads(prepared.payload["body"]) == {**body, "client_order_id": "mx-1"}
    assert venue.prepare(request_) == prepared


@given(st.decimals("0.000000001", "99999999", places=9))
def test_no_quantity_becomes_a_float(quantity: Decimal) -> None:
    body = json.loads(terms_of(replace(BUY, quantity=quantity), "AAPL", OrderOptions(), stock=False).body)
    assert {type(value) for value in body.values()} == {str}
    assert D(body["qty"]) == quantity
    assert "E" not in body["qty"]


def test_what_arrives_is_what_was_stored(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    assert [one.body for one in fake.requests if one.method == "POST"] == [prepared.payload["body"]]


def test_a_reference_names_account_order_and_deadline() -> None:
    ref = Ref("a/b", "mx-1", T0)
    assert Ref.parse(str(ref)) == ref
    with pytest.raises(ValueError, match="not enough values"):
        Ref.parse("mx-1")


def test_a_reference_that_is_none_of_ours_stops_no_other(venue: KnownKeys) -> None:
    prepared = sent(venue)
    answers = venue.find_many(["mx-elsewhere", prepared.ref])
    assert isinstance(answers["mx-elsewhere"], ValueError)
    assert isinstance(answers[prepared.ref], Report)


# --- one order stays one


@pytest.mark.parametrize("fault", TAKEN)
def test_an_order_whose_answer_was_lost_is_one_order(venue: KnownKeys, fake: Server, fault: str) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "POST")
    with pytest.raises(Unknown):
        venue.send(prepared)
    for _ in range(2):
        venue.send(prepared)

    assert effects(fake) == 1
    assert found(venue, prepared.ref).state == "filled"


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_an_order_that_did_not_arrive_is_sent_again(venue: KnownKeys, fake: Server, fault: str) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "POST")
    with pytest.raises(Unknown):
        venue.send(prepared)
    assert (effects(fake), venue.find(prepared.ref)) == (0, None)

    venue.send(prepared)
    assert (effects(fake), found(venue, prepared.ref).state) == (1, "filled")


def test_a_slow_answer_is_waited_for(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("slow", "POST")
    assert found(venue, sent(venue).ref).state == "filled"


def test_an_answer_that_comes_too_late_leaves_the_order_unknown(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.alpaca.client.TIMEOUT_SECONDS", 0.1)
    venue.client = Client(fake.url)
    with venue.client._http:
        fake.misbehaves("slow", "POST")
        prepared = venue.prepare(BUY)
        with pytest.raises(Unknown, match="ReadTimeout"):
            venue.send(prepared)
        assert found(venue, prepared.ref).state == "filled"


def test_a_repeated_id_is_a_success_and_another_bad_request_is_not(venue: KnownKeys, fake: Server) -> None:
    """Both have the number 40010001."""
    prepared = sent(venue)
    venue.send(prepared)
    assert effects(fake) == 1
    with pytest.raises(Rejected, match="qty must be > 0") as refusal:
        sent(venue, replace(BUY, client_order_id="mx-2", quantity=D(0)))
    assert refusal.value.code == "refused_by_venue"


def test_a_repeat_that_lacks_the_cash_which_the_first_took_is_no_rejection(
    venue: KnownKeys, fake: Server
) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves("lost", "POST")
    with pytest.raises(Unknown):
        venue.send(prepared)
    fake.misbehaves("no_power", "POST")
    venue.send(prepared)

    fake.misbehaves("no_power", "POST")
    with pytest.raises(Rejected) as refusal:
        sent(venue, replace(BUY, client_order_id="mx-2"))
    assert refusal.value.code == "insufficient_balance"


def test_a_refusal_that_cannot_be_checked_is_unknown(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("no_power", "POST")
    fake.misbehaves("maintenance", "GET")
    with pytest.raises(Unknown, match="cannot be looked up"):
        sent(venue)


def test_an_order_is_not_sent_after_its_deadline(venue: KnownKeys, fake: Server, time: RecordedClock) -> None:
    prepared = venue.prepare(BUY)
    time.to(BUY.deadline)
    with pytest.raises(Rejected) as refusal:
        venue.send(prepared)
    assert (refusal.value.code, effects(fake)) == ("deadline_passed", 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (replace(BUY, quantity=D(5000)), "insufficient_balance"),
        (replace(COIN, side="sell"), "no_position"),
        (replace(BUY, side="sell"), "shorts_not_supported"),
        (replace(COIN, symbol="NOPE"), "token_not_listed"),
    ],
)
def test_a_refusal_has_our_reason(venue: KnownKeys, request_: Request, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        sent(venue, request_)
    assert refusal.value.code == code


def test_a_refused_order_stops_no_other(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}")) for n in range(6)]
    orders[3] = venue.prepare(replace(BUY, client_order_id="mx-3", quantity=D(5000)))
    errors = venue.send_many(orders)
    assert list(errors) == [orders[3].ref]
    assert effects(fake) == 5


# --- the rate limit


def test_a_rate_limit_rests_its_own_account_only(venue: KnownKeys, fake: Server, time: RecordedClock) -> None:
    fake.misbehaves("limited", "POST")
    prepared, other = venue.prepare(BUY), venue.prepare(replace(BUY, account="alpaca:2"))
    with pytest.raises(Retryable) as limited:
        venue.send(prepared)
    assert (limited.value.limited, limited.value.after) == (True, 30)
    asked = len(fake.requests)
    with pytest.raises(Retryable, match="used up for 30 s"):
        venue.send(prepared)
    assert len(fake.requests) == asked
    venue.send(other)

    time.move(seconds=31)
    venue.send(prepared)
    assert (effects(fake), effects(fake, "alpaca:2")) == (1, 1)


def test_the_last_request_of_a_minute_is_followed_by_none(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.limit = 1
    prepared = sent(venue)
    with pytest.raises(Retryable, match="rate limit"):
        venue.find(prepared.ref)
    assert len(fake.requests) == 1


def test_reads_that_can_wait_leave_requests_for_orders(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.limit = RESERVED + 3
    prepared = sent(venue)
    venue.balances(ACCOUNT)
    assert venue.balances_of([ACCOUNT]) == {}, "only the reserve is left"
    with pytest.raises(Retryable, match=f"{RESERVED} requests of this account are left for 30 s"):
        venue.access.account(venue._keys(ACCOUNT))
    assert found(venue, prepared.ref).state == "filled"
    assert found(venue, sent(venue, replace(BUY, client_order_id="mx-2")).ref).state == "filled"
    assert venue.problem(1, ACCOUNT, "AAPL", "close") == ""
    time.move(seconds=31)
    fake.used.clear()
    assert venue.balances(ACCOUNT)["AAPL"] == 3


def test_no_pause_is_longer_than_a_minute_whatever_the_brokers_clock_says(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.broker.skew = timedelta(hours=3)
    fake.misbehaves("limited", "POST")
    with pytest.raises(Retryable):
        sent(venue)
    time.move(seconds=61)
    assert found(venue, sent(venue).ref).state == "filled"


# --- where an order stands


@pytest.mark.parametrize("word", sorted({*PENDING, *ENDED, "a_word_of_tomorrow"}))
def test_every_status_is_a_state_of_ours_and_an_unknown_one_is_pending(
    venue: KnownKeys, fake: Server, word: str
) -> None:
    fake.broker.fills = False
    prepared = sent(venue)
    fake.broker.order_of(fake.broker.account(ACCOUNT), "mx-1")["status"] = word
    report = found(venue, prepared.ref)

    assert report.state in ORDER[OrderState.SENDING]
    assert report.state == (word if word in ENDED else "accepted")
    if word != "replaced":
        fake.broker.fill(fake.broker.account(ACCOUNT), "mx-1", "0.5")
        fake.broker.order_of(fake.broker.account(ACCOUNT), "mx-1")["status"] = word
        assert found(venue, prepared.ref).state == (word if word in ENDED else "partially_filled")


def test_partial_fills_keep_their_ids_and_add_up_by_polling_alone(venue: KnownKeys, fake: Server) -> None:
    fake.broker.fills = False
    prepared, account = sent(venue), fake.broker.account(ACCOUNT)
    seen: list[tuple[VenueFill, ...]] = []
    for quantity, usd in (("0.5", "200"), ("0.25", "201"), ("0.75", "202")):
        fake.broker.fill(account, "mx-1", quantity, usd)
        seen.append(found(venue, prepared.ref).fills)

    assert seen[1][:1] == seen[0]
    assert seen[2][:2] == seen[1]
    assert [(fill.quantity, fill.price, fill.cash, fill.fee) for fill in seen[2]] == [
        (D("0.5"), D(200), D(100), 0),
        (D("0.25"), D(201), D("50.25"), 0),
        (D("0.75"), D(202), D("151.50"), 0),
    ]
    assert found(venue, prepared.ref) == Report("filled", seen[2])


def test_a_partly_filled_order_that_is_canceled_keeps_its_fill(venue: KnownKeys, fake: Server) -> None:
    fake.broker.depth = D("0.5")
    prepared = sent(venue)
    fake.broker.fills = False
    venue.cancel(prepared.ref)
    report = found(venue, prepared.ref)
    assert (report.state, total(report.fills)) == ("canceled", D("0.5"))
    venue.cancel(prepared.ref)  # it has ended: nothing happens


def test_an_ioc_order_of_crypto_cancels_what_it_cannot_fill(venue: KnownKeys, fake: Server) -> None:
    fake.broker.depth = D("0.04")
    report = found(venue, sent(venue, COIN).ref)
    assert (report.state, total(report.fills)) == ("canceled", D("0.0399"))


def test_an_order_has_ended_only_when_all_its_fills_are_seen(venue: KnownKeys, fake: Server) -> None:
    fake.broker.depth = D("0.5")
    prepared = sent(venue)
    fake.broker.shown = 0
    states = []
    for shown in (0, 1, 2, None):
        fake.broker.shown = shown
        report = found(venue, prepared.ref)
        states.append((report.state, total(report.fills)))
    assert states == [
        ("accepted", 0),
        ("partially_filled", D("0.5")),
        ("partially_filled", D(1)),
        ("filled", D("1.5")),
    ]


def test_an_order_that_its_owner_replaced_is_followed(venue: KnownKeys, fake: Server) -> None:
    fake.broker.fills = False
    prepared, account = sent(venue), fake.broker.account(ACCOUNT)
    fake.broker.fill(account, "mx-1", "0.5")
    first = fake.broker.order_of(account, "mx-1")
    second = fake.broker.replace(account, first["id"], {"client_order_id": "by-hand-1"})
    fake.broker.fill(account, "by-hand-1", "0.25")
    assert found(venue, prepared.ref).state == "partially_filled"
    third = fake.broker.replace(account, second["id"], {"client_order_id": "by-hand-2"})
    fake.broker.fill(account, "by-hand-2")
    report = found(venue, prepared.ref)

    assert (report.state, total(report.fills)) == ("filled", D("1.5"))
    assert third["replaces"] == second["id"]
    many = [prepared.ref, *(sent(venue, replace(BUY, client_order_id=f"mx-{n}")).ref for n in (2, 3, 4))]
    assert venue.find_many(many)[prepared.ref] == report


def test_canceling_a_replaced_order_cancels_what_replaced_it(venue: KnownKeys, fake: Server) -> None:
    fake.broker.fills = False
    prepared, account = sent(venue), fake.broker.account(ACCOUNT)
    fake.broker.replace(account, fake.broker.order_of(account, "mx-1")["id"], {"client_order_id": "by-hand"})
    venue.cancel(prepared.ref)
    assert found(venue, prepared.ref).state == "canceled"


def test_replacements_without_end_are_no_answer(venue: KnownKeys, fake: Server) -> None:
    fake.broker.fills = False
    prepared = sent(venue)
    row = fake.broker.order_of(fake.broker.account(ACCOUNT), "mx-1")
    row |= {"status": "replaced", "replaced_by": row["id"]}
    with pytest.raises(Retryable, match="no end"):
        venue.find(prepared.ref)


def test_what_is_not_filled_at_the_deadline_is_canceled(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.broker.is_open = False
    prepared = sent(venue)
    time.to(BUY.deadline - timedelta(seconds=1))
    assert found(venue, prepared.ref).state == "accepted"
    time.to(BUY.deadline)
    venue.find(prepared.ref)
    assert found(venue, prepared.ref).state == "canceled"


@pytest.mark.parametrize("fault", ["gone", "maintenance", "page", "limited", "unsent"])
def test_an_answer_that_is_not_alpacas_does_not_make_an_order_absent(
    venue: KnownKeys, fake: Server, fault: str
) -> None:
    prepared = sent(venue)
    fake.misbehaves(fault, "GET")
    with pytest.raises(Retryable):
        venue.find(prepared.ref)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_broker_whose_clock_is_wrong_loses_no_fill(venue: KnownKeys, fake: Server, hours: int) -> None:
    fake.broker.skew = timedelta(hours=hours)
    assert found(venue, sent(venue).ref).state == "filled"


# --- many at once


def test_many_orders_are_read_in_one_list_and_one_page_of_fills(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}", quantity=D(1))) for n in range(40)]
    assert venue.send_many(orders) == {}
    fake.requests.clear()
    answers = venue.find_many([order.ref for order in orders])

    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert len(answers) == 40
    assert fake.lines() == ["GET /v2/orders", "GET /v2/account/activities"]


def test_an_order_that_the_list_leaves_out_is_asked_for(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.alpaca.reader.ORDER_PAGE", 2)
    refs = [sent(venue, replace(BUY, client_order_id=f"mx-{n}", quantity=D(1))).ref for n in range(5)]
    never = venue.prepare(replace(BUY, client_order_id="mx-never")).ref
    answers = venue.find_many([*refs, never])
    assert [answers[ref] == venue.find(ref) for ref in refs] == [True] * 5
    assert answers[never] is None


def test_fills_on_several_pages_are_all_read(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.alpaca.reader.ACTIVITY_PAGE", 3)
    fake.broker.fills = False
    prepared = sent(venue)
    for _ in range(10):
        fake.broker.fill(fake.broker.account(ACCOUNT), "mx-1", "0.15")
    assert total(found(venue, prepared.ref).fills) == D("1.5")


def test_an_account_that_is_not_read_hides_no_other(venue: KnownKeys, fake: Server) -> None:
    refs = [sent(venue, replace(BUY, account=f"alpaca:{n}")).ref for n in range(12)]
    venue.wrong.add("alpaca:7")
    answers = venue.find_many(refs)
    broken = answers.pop(refs[7])
    assert isinstance(broken, Rejected)
    assert broken.code == "credentials_refused"
    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert len(answers) == 11


def test_more_orders_than_one_page_are_found_without_asking_for_each(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch, time: RecordedClock
) -> None:
    monkeypatch.setattr("trading.venues.alpaca.reader.ORDER_PAGE", 3)
    refs = []
    for number in range(8):
        time.move(seconds=1)
        refs.append(sent(venue, replace(BUY, client_order_id=f"mx-{number}")).ref)
    fake.requests.clear()
    assert all(isinstance(report, Report) for report in venue.find_many(refs).values())
    assert fake.lines().count("GET /v2/orders") == 4  # pages overlap by one
    assert "GET /v2/orders:by_client_order_id" not in fake.lines()


def test_a_page_of_orders_of_one_moment_is_not_read_for_ever(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.alpaca.reader.ORDER_PAGE", 3)
    refs = [sent(venue, replace(BUY, client_order_id=f"mx-{number}")).ref for number in range(8)]
    fake.requests.clear()
    assert all(isinstance(report, Report) for report in venue.find_many(refs).values())
    assert fake.lines().count("GET /v2/orders") == 2
