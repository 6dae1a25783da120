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
from tests.trading.venues.coinbase.exchange import Row
from tests.trading.venues.coinbase.server import Server
from tests.trading.venues.coinbase.world import KnownKeys
from trading.states import ORDER, OrderState
from trading.venues.base import Prepared, Report, Request, VenueFill
from trading.venues.broker import Ref
from trading.venues.coinbase.client import Client
from trading.venues.coinbase.orders import ENDED, PENDING, body_of, bound, sent_id_of

D = Decimal
ACCOUNT = "coinbase:1"
BUY = Request(
    client_order_id="mx-1",
    account=ACCOUNT,
    symbol="BTC",
    side="buy",
    purpose="open",
    quantity=D("0.1"),
    reference_price=D(50_000),
    deadline=T0 + timedelta(minutes=5),
)
EXIT = replace(BUY, client_order_id="mx-2", side="sell", purpose="close")
SENT_ID = sent_id_of(Ref(ACCOUNT, "mx-1", T0))
TAKEN = ["lost", "broken_after", "unexplained"]
NOT_TAKEN = ["unsent", "broken", "maintenance", "page", "moved", "nothing", "gone"]


def sent(venue: KnownKeys, request: Request = BUY) -> Prepared:
    prepared = venue.prepare(request)
    venue.send(prepared)
    return prepared


def found(venue: KnownKeys, ref: str) -> Report:
    report = venue.find(ref)
    assert report is not None
    return report


def effects(fake: Server, account: str = ACCOUNT) -> int:
    """How many orders the exchange took."""
    return fake.exchange.portfolio(account).effects


def row_of(fake: Server, request: Request = BUY) -> Row:
    sent_id = sent_id_of(Ref(request.account, request.client_order_id, T0))
    return fake.exchange.order_of(fake.exchange.portfolio(request.account), sent_id)


def fill(fake: Server, size: str = "", usd: str = "") -> None:
    fake.exchange.fill(fake.exchange.portfolio(ACCOUNT), SENT_ID, size, usd)


def total(fills: tuple[VenueFill, ...]) -> Decimal:
    return sum((one.quantity for one in fills), D(0))


# --- the body


@pytest.mark.parametrize(
    ("request_", "side", "configuration"),
    [
        (BUY, "BUY", {"sor_limit_ioc": {"base_size": "0.1", "limit_price": "50250"}}),
        (EXIT, "SELL", {"market_market_ioc": {"base_size": "0.1"}}),
        (replace(EXIT, urgent=True), "SELL", {"market_market_ioc": {"base_size": "0.1"}}),
    ],
)
def test_an_entry_is_bounded_and_an_exit_is_not(
    venue: KnownKeys, request_: Request, side: str, configuration: Any
) -> None:
    prepared = venue.prepare(request_)
    assert json.loads(prepared.payload["body"]) == {
        "client_order_id": sent_id_of(Ref(ACCOUNT, request_.client_order_id, T0)),
        "product_id": "BTC-USD",
        "side": side,
        "order_configuration": configuration,
    }
    assert venue.prepare(request_) == prepared


@given(st.decimals("0.00000001", "99999999", places=8), st.decimals("0.01", "99999999", places=2))
def test_no_number_becomes_a_float(quantity: Decimal, limit: Decimal) -> None:
    body = json.loads(body_of(replace(BUY, quantity=quantity), "id", limit))
    terms = body["order_configuration"]["sor_limit_ioc"]
    assert {type(value) for value in terms.values()} == {str}
    assert (D(terms["base_size"]), D(terms["limit_price"])) == (quantity, limit)
    assert "E" not in "".join(terms.values())


@given(
    st.decimals("0.0001", "999999", places=6),
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 9999),
    st.sampled_from(["0.01", "0.0001", "5"]),
)
def test_a_bound_is_on_the_price_step_and_never_beyond_the_slippage(
    price: Decimal, side: str, slippage_bps: int, step: str
) -> None:
    limit = bound(price, side, D(slippage_bps) / 10_000, D(step))
    exact = price * (1 + (1 if side == "buy" else -1) * D(slippage_bps) / 10_000)
    assert limit % D(step) == 0
    assert limit <= exact if side == "buy" else limit >= exact
    assert abs(limit - exact) < D(step)


def test_our_id_becomes_a_uuid_which_is_always_the_same() -> None:
    ref = Ref("a", "mx-1", T0)
    assert (
        sent_id_of(ref)
        == sent_id_of(Ref("b", "mx-1", T0 + timedelta(days=1)))
        == "af339378-13b2-5672-a779-2fdb5d31d740"
    )
    assert sent_id_of(ref) != sent_id_of(Ref("a", "mx-2", T0))


def test_what_arrives_is_what_was_stored(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    posts = [one for one in fake.requests if one.method == "POST"]
    assert [(one.path, one.body) for one in posts] == [("/api/v3/brokerage/orders", prepared.payload["body"])]


def test_a_reference_names_account_order_and_end() -> None:
    ref = Ref("a/b", "mx-1", T0)
    assert Ref.parse(str(ref)) == ref
    with pytest.raises(ValueError, match="not enough values"):
        Ref.parse("mx-1")


def test_a_reference_that_is_none_of_ours_stops_no_other(venue: KnownKeys) -> None:
    prepared = sent(venue)
    answers = venue.find_many(["mx-elsewhere", prepared.ref])
    assert isinstance(answers["mx-elsewhere"], ValueError)
    assert isinstance(answers[prepared.ref], Report)


def test_an_entry_fills_at_its_bound_or_not_at_all(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.price("BTC", "50251")
    assert found(venue, sent(venue).ref) == Report("canceled")
    fake.exchange.price("BTC", "50250")
    report = found(venue, sent(venue, replace(BUY, client_order_id="mx-3")).ref)
    assert (report.state, {one.price for one in report.fills}) == ("filled", {D(50_250)})


def test_an_exit_fills_wherever_the_market_is(venue: KnownKeys, fake: Server) -> None:
    sent(venue)
    fake.exchange.price("BTC", "20000")
    assert found(venue, sent(venue, EXIT).ref).state == "filled"


# --- one order stays one


@pytest.mark.parametrize("fault", TAKEN)
def test_an_order_whose_answer_was_lost_is_found_by_our_id(
    venue: KnownKeys, fake: Server, fault: str
) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "POST")
    with pytest.raises(Unknown):
        venue.send(prepared)

    assert effects(fake) == 1
    assert found(venue, prepared.ref).state == "filled"


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_an_answer_that_proves_nothing_leaves_the_order_unknown(
    venue: KnownKeys, fake: Server, fault: str
) -> None:
    prepared = venue.prepare(BUY)
    fake.misbehaves(fault, "POST")
    with pytest.raises(Unknown):
        venue.send(prepared)
    assert (effects(fake), venue.find(prepared.ref)) == (0, None)


def test_a_repeat_is_the_same_order_where_coinbase_knows_it(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    venue.send(prepared)
    assert effects(fake) == 1
    assert total(found(venue, prepared.ref).fills) == D("0.1")


def test_a_repeat_that_coinbase_took_for_another_order_is_booked_whole(
    venue: KnownKeys, fake: Server
) -> None:
    """We never repeat one. If somebody does, the ledger must still agree with the account."""
    fake.exchange.dedups = False
    prepared = sent(venue)
    venue.send(prepared)
    assert effects(fake) == 2
    report = found(KnownKeys(fake), prepared.ref)
    assert (report.state, total(report.fills)) == ("filled", D("0.2"))
    assert len({one.fill_id for one in report.fills}) == 2


def test_nothing_is_sent_twice_by_us(venue: KnownKeys) -> None:
    assert venue.capabilities.dedup is False
    assert venue.capabilities.find_lag == timedelta(seconds=30)


def test_an_order_that_the_list_does_not_show_yet_is_none_and_then_found(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.exchange.list_lag = timedelta(seconds=25)
    fake.misbehaves("lost", "POST")
    prepared = venue.prepare(BUY)
    with pytest.raises(Unknown):
        venue.send(prepared)
    assert venue.find(prepared.ref) is None
    time.move(seconds=25)
    assert found(venue, prepared.ref).state == "filled"


def test_an_order_whose_id_is_known_needs_no_list(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.list_lag = timedelta(seconds=25)
    assert found(venue, sent(venue).ref).state == "filled"
    assert not [line for line in fake.lines() if line.endswith("/batch")]


def test_coinbase_refuses_an_order_after_its_deadline_even_if_it_was_on_its_way(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    """The signature ends with the deadline: a request that was held up for long is not taken."""
    prepared = venue.prepare(BUY)
    end = T0 + timedelta(seconds=120)
    assert prepared.deadline == end
    time.to(end - timedelta(seconds=1))
    fake.exchange.time = lambda: end
    with pytest.raises(Rejected) as refusal:
        venue.send(prepared)
    assert (refusal.value.code, effects(fake)) == ("credentials_refused", 0)


def test_the_deadline_of_the_request_comes_first_where_it_is_sooner(venue: KnownKeys) -> None:
    soon = T0 + timedelta(seconds=10)
    assert venue.prepare(replace(BUY, deadline=soon)).deadline == soon


def test_an_order_is_not_sent_after_its_deadline(venue: KnownKeys, fake: Server, time: RecordedClock) -> None:
    prepared = venue.prepare(BUY)
    time.move(seconds=120)
    with pytest.raises(Rejected) as refusal:
        venue.send(prepared)
    assert (refusal.value.code, fake.requests) == ("deadline_passed", [])


def test_a_slow_answer_is_waited_for(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("slow", "POST")
    assert found(venue, sent(venue).ref).state == "filled"


def test_an_answer_that_comes_too_late_leaves_the_order_unknown(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.coinbase.client.TIMEOUT_SECONDS", 0.1)
    venue.client = Client(fake.url)
    with venue.client._http:
        fake.misbehaves("slow", "POST")
        prepared = venue.prepare(BUY)
        with pytest.raises(Unknown, match="ReadTimeout"):
            venue.send(prepared)
        assert found(venue, prepared.ref).state == "filled"


# --- refusals


def test_success_false_is_a_rejection_with_the_reason(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("refused", "POST")
    with pytest.raises(Rejected, match=r"INVALID_LIMIT_PRICE\): Invalid limit price") as refusal:
        sent(venue)
    assert (refusal.value.code, effects(fake)) == ("refused_by_venue", 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (replace(BUY, quantity=D(5000)), "insufficient_balance"),
        (EXIT, "no_position"),
        (replace(BUY, symbol="LTC", reference_price=D(100)), "token_not_listed"),
        (replace(BUY, quantity=D("0.000000001")), "refused_by_venue"),
    ],
)
def test_a_refusal_has_our_reason(venue: KnownKeys, fake: Server, request_: Request, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        sent(venue, request_)
    assert (refusal.value.code, effects(fake)) == (code, 0)


def test_other_refusals_are_in_coinbases_words(venue: KnownKeys, fake: Server) -> None:
    fake.misbehaves("invalid", "POST")
    with pytest.raises(Rejected, match=r"INVALID_ARGUMENT\): invalid argument"):
        sent(venue)
    venue.wrong.add(ACCOUNT)
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == "credentials_refused"


@pytest.mark.parametrize(
    ("state", "code"), [("trading_disabled", "market_closed"), ("cancel_only", "market_closed")]
)
def test_a_product_that_is_closed_refuses(venue: KnownKeys, fake: Server, state: str, code: str) -> None:
    fake.exchange.price("BTC", "50000", **{state: True})
    with pytest.raises(Rejected) as refusal:
        sent(venue)
    assert refusal.value.code == code


def test_a_refused_order_stops_no_other(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}")) for n in range(6)]
    orders[3] = venue.prepare(replace(BUY, client_order_id="mx-3", quantity=D(5000)))
    errors = venue.send_many(orders)
    assert list(errors) == [orders[3].ref]
    assert effects(fake) == 5


# --- the rate limit and our clock


def test_a_rate_limit_ends_the_order_at_once_and_rests_its_own_account_only(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    """Nothing is sent twice, so an order that was not taken is over: the next sweep decides the exit anew."""
    fake.misbehaves("limited", "POST")
    with pytest.raises(Rejected, match="did not reach Coinbase") as refusal:
        sent(venue)
    assert (refusal.value.code, effects(fake)) == ("never_arrived", 0)
    asked = len(fake.requests)
    with pytest.raises(Retryable, match="used up for 1 s") as limited:
        venue.balances(ACCOUNT)
    assert (limited.value.limited, len(fake.requests)) == (True, asked)
    sent(venue, replace(BUY, account="coinbase:2"))
    time.move(seconds=1)
    sent(venue, replace(BUY, client_order_id="mx-3"))
    assert (effects(fake), effects(fake, "coinbase:2")) == (1, 1)


@pytest.mark.parametrize("seconds", [-200, 200])
def test_a_wrong_clock_of_ours_is_named_and_is_no_refusal_of_the_key(
    venue: KnownKeys, fake: Server, seconds: int
) -> None:
    prepared = sent(venue)
    fake.exchange.skew = timedelta(seconds=seconds)
    with pytest.raises(Retryable, match=f"clock is 200 s {'slow' if seconds > 0 else 'fast'}"):
        venue.find(prepared.ref)
    with pytest.raises(Rejected, match="clock is 200 s") as refusal:
        sent(venue, replace(BUY, client_order_id="mx-3"))
    assert (refusal.value.code, effects(fake)) == ("never_arrived", 1)


# --- where an order stands


@pytest.mark.parametrize("word", sorted({*PENDING, *ENDED, "A_WORD_OF_TOMORROW"}))
def test_every_status_is_a_state_of_ours_and_an_unknown_one_is_pending(
    venue: KnownKeys, fake: Server, word: str
) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    row_of(fake)["status"] = word
    report = found(venue, prepared.ref)
    assert report.state in ORDER[OrderState.SENDING]
    assert report.state == ENDED.get(word, "accepted")
    fill(fake, "0.05")
    row_of(fake)["status"] = word
    expected = "canceled" if word == "FAILED" else ENDED.get(word, "partially_filled")
    assert found(venue, prepared.ref).state == expected


def test_partial_fills_keep_their_ids_and_add_up_by_polling_alone(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    seen: list[tuple[VenueFill, ...]] = []
    for size, usd in (("0.02", "50000"), ("0.03", "50100"), ("0.05", "50200")):
        fill(fake, size, usd)
        seen.append(found(venue, prepared.ref).fills)

    assert seen[1][:1] == seen[0]
    assert seen[2][:2] == seen[1]
    assert [(one.quantity, one.price, one.cash, one.fee) for one in seen[2]] == [
        (D("0.02"), D(50_000), D(1000), D(6)),
        (D("0.03"), D(50_100), D(1503), D("9.018")),
        (D("0.05"), D(50_200), D(2510), D("15.06")),
    ]
    assert found(venue, prepared.ref) == Report("filled", seen[2])


def test_an_order_has_ended_only_when_all_its_fills_are_seen(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.depth = D("0.05")
    prepared = sent(venue)
    states = []
    for shown in (0, 0, 1, None):
        fake.exchange.shown = shown
        report = found(venue, prepared.ref)
        states.append((report.state, total(report.fills)))
    assert states == [("accepted", 0), ("accepted", 0), ("partially_filled", D("0.05")), ("filled", D("0.1"))]


def test_what_an_immediate_order_cannot_fill_is_canceled(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.depth, fake.exchange.cancels_rest = D("0.04"), True
    report = found(venue, sent(venue).ref)
    assert (report.state, total(report.fills)) == ("canceled", D("0.04"))


def test_a_fill_that_comes_twice_or_late_counts_once(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    for _ in range(4):
        fill(fake, "0.025")
    fills = fake.exchange.portfolio(ACCOUNT).fills
    fills[:] = [fills[3], fills[0], fills[2], fills[1], fills[1], fills[3]]
    report = found(venue, prepared.ref)
    assert (report.state, total(report.fills), len(report.fills)) == ("filled", D("0.1"), 4)


def test_a_fill_in_usd_is_read_in_tokens(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    fake.exchange.portfolio(ACCOUNT).fills[0] |= {"size": "5000", "size_in_quote": True}
    [one] = found(venue, prepared.ref).fills
    assert (one.quantity, one.cash) == (D("0.1"), D(5000))


def test_a_fill_that_was_corrected_is_not_booked_and_its_order_stays_pending(
    venue: KnownKeys, fake: Server
) -> None:
    prepared = sent(venue)
    fake.exchange.portfolio(ACCOUNT).fills[0]["trade_type"] = "REVERSAL"
    assert found(venue, prepared.ref) == Report("accepted")


def test_a_failed_order_is_a_rejection_with_the_reason(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    row_of(fake).update(status="FAILED", reject_reason="REJECT_REASON_INSUFFICIENT_FUND")
    assert found(venue, prepared.ref) == Report("rejected", reason="insufficient_balance")


def test_what_is_not_filled_at_the_deadline_is_canceled(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    fake.exchange.depth = D("0.04")
    prepared = sent(venue)
    fake.exchange.fills = False
    time.move(seconds=119)
    assert found(venue, prepared.ref).state == "partially_filled"
    time.move(seconds=1)
    venue.find(prepared.ref)
    report = found(venue, prepared.ref)
    assert (report.state, total(report.fills)) == ("canceled", D("0.04"))


def test_canceling_keeps_what_was_filled_and_an_ended_order_as_it_is(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.depth = D("0.04")
    prepared = sent(venue)
    fake.exchange.fills = False
    venue.cancel(prepared.ref)
    assert total(found(venue, prepared.ref).fills) == D("0.04")
    venue.cancel(prepared.ref)
    venue.cancel(venue.prepare(replace(BUY, client_order_id="mx-never")).ref)
    assert len([line for line in fake.lines() if line.endswith("batch_cancel")]) == 1


def test_a_cancellation_that_comes_too_late_changes_nothing(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.fills = False
    prepared = sent(venue)
    for fault in ("lost", "maintenance", "nothing", "invalid"):
        fake.misbehaves(fault, "POST", "/orders/batch_cancel")
        venue.cancel(prepared.ref)
    assert found(venue, prepared.ref).state == "canceled"


@pytest.mark.parametrize("fault", ["gone", "maintenance", "page", "limited", "unsent", "nothing", "moved"])
@pytest.mark.parametrize("path", ["/orders/historical/batch", "/orders/historical/fills"])
def test_an_answer_that_is_not_coinbases_makes_no_order_absent_and_no_fill_vanish(
    venue: KnownKeys, fake: Server, fault: str, path: str
) -> None:
    prepared = sent(venue)
    fake.misbehaves(fault, "GET", path)
    with pytest.raises(Retryable):
        KnownKeys(fake).find(prepared.ref)


def test_an_order_that_was_taken_and_is_not_shown_is_not_absent(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue)
    fake.exchange.portfolio(ACCOUNT).orders.clear()
    with pytest.raises(Retryable, match="does not show the order mx-1 yet"):
        venue.find(prepared.ref)


@pytest.mark.parametrize("member", ["status", "client_order_id", "filled_size"])
def test_an_order_that_cannot_be_read_is_not_over_and_stops_no_other(
    venue: KnownKeys, fake: Server, member: str
) -> None:
    refs = [sent(venue, replace(BUY, client_order_id=f"mx-{n}")).ref for n in (1, 2, 3)]
    row_of(fake)[member] = "?"
    fake.exchange.portfolio(ACCOUNT).fills[0]["price"] = "?"
    answers = venue.find_many(refs)
    first = answers.pop(refs[0])
    assert isinstance(first, Retryable)
    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert len(answers) == 2


# --- many at once


def test_many_orders_are_read_in_one_list_and_one_page_of_fills(venue: KnownKeys, fake: Server) -> None:
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}", quantity=D("0.01"))) for n in range(40)]
    assert venue.send_many(orders) == {}
    fake.requests.clear()
    answers = venue.find_many([order.ref for order in orders])

    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert len(answers) == 40
    api = "GET /api/v3/brokerage/orders/historical"
    assert fake.lines() == [f"{api}/batch", f"{api}/fills"]


def test_orders_and_fills_on_several_pages_are_all_read(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.page = 3
    orders = [venue.prepare(replace(BUY, client_order_id=f"mx-{n}", quantity=D("0.01"))) for n in range(10)]
    assert venue.send_many(orders) == {}
    never = venue.prepare(replace(BUY, client_order_id="mx-never")).ref
    answers = KnownKeys(fake).find_many([*(order.ref for order in orders), never])
    assert answers.pop(never) is None
    assert [answer.state for answer in answers.values() if isinstance(answer, Report)] == ["filled"] * 10


def test_pages_without_end_are_no_answer(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.venues.coinbase.client.MOST_PAGES", 2)
    fake.exchange.page = 1
    refs = [sent(venue, replace(BUY, client_order_id=f"mx-{n}", quantity=D("0.01"))).ref for n in range(4)]
    answers = KnownKeys(fake).find_many(refs)
    assert {type(answer) for answer in answers.values()} == {Retryable}


def test_an_account_that_is_not_read_hides_no_other(venue: KnownKeys, fake: Server) -> None:
    refs = [sent(venue, replace(BUY, account=f"coinbase:{n}")).ref for n in range(12)]
    venue.wrong.add("coinbase:7")
    answers = venue.find_many(refs)
    broken = answers.pop(refs[7])
    assert isinstance(broken, Rejected)
    assert broken.code == "credentials_refused"
    assert {answer.state for answer in answers.values() if isinstance(answer, Report)} == {"filled"}
    assert len(answers) == 11
