"""Orders with legs: what is sent, what Alpaca says of the legs, and their end before ours is sent."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import structlog

from maxxit.core.errors import Misconfigured, Rejected, Retryable, Unknown
from tests.trading.venues.alpaca.server import Server
from tests.trading.venues.alpaca.test_orders import ACCOUNT, BUY, COIN, effects, found, sent, total
from tests.trading.venues.alpaca.world import KnownKeys
from trading.venues.alpaca.terms import OrderOptions
from trading.venues.base import Leg, Prepared, Request
from trading.venues.broker import Ref

D = Decimal
BRACKET = replace(BUY, quantity=D(2), stop=D("197.003"), target=D("206"))
SELL = replace(BUY, client_order_id="mx-exit", side="sell", purpose="close", quantity=D(2))


def body(venue: KnownKeys, request: Request) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(venue.prepare(request).payload["body"])
    del members["client_order_id"]
    return members


def row_of(fake: Server, client_order_id: str) -> dict[str, Any]:
    return fake.broker.order_of(fake.broker.account(ACCOUNT), client_order_id)


def legs(venue: KnownKeys, prepared: Prepared) -> dict[str, Leg]:
    answer = venue.exits([prepared.ref])[prepared.ref]
    if isinstance(answer, Exception):
        raise answer
    return {leg.reason: leg for leg in answer}


# --- the body


def test_a_stock_s_entry_takes_stop_and_target_along(venue: KnownKeys) -> None:
    assert body(venue, BRACKET) == {
        "symbol": "AAPL", "qty": "2", "side": "buy", "type": "market", "time_in_force": "gtc",
        "order_class": "bracket", "take_profit": {"limit_price": "206"}, "stop_loss": {"stop_price": "197"},
    }  # fmt: skip
    assert venue.prepare(BRACKET).rests_exits


def test_a_short_has_its_levels_on_the_other_side(venue: KnownKeys, fake: Server) -> None:
    short = replace(BRACKET, side="sell", stop=D(203), target=D(194))
    sent(venue, short)
    assert row_of(fake, "mx-1")["order_class"] == "bracket"


@pytest.mark.parametrize(
    ("options", "request_", "expected"),
    [
        ({}, replace(BRACKET, stop=None, target=None), ("bracket", "206", "197")),
        ({"take_profit_pct": 5, "stop_loss_pct": 2.25}, replace(BRACKET, stop=None, target=None),
         ("bracket", "210", "195.5")),
        ({"take_profit_pct": 5}, BRACKET, ("bracket", "206", "197")),
        ({"take_profit_pct": 0}, replace(BRACKET, target=None), ("oto", None, "197")),
        ({"stop_loss_pct": 0}, replace(BRACKET, stop=None), ("oto", "206", None)),
    ],
)  # fmt: skip
def test_the_agent_s_levels_go_before_the_options(
    fake: Server, options: dict[str, Any], request_: Request, expected: tuple[str, str | None, str | None]
) -> None:
    members = body(KnownKeys(fake, stocks=("AAPL",), **options), request_)
    target, stop = members.get("take_profit", {}), members.get("stop_loss", {})
    assert (members["order_class"], target.get("limit_price"), stop.get("stop_price")) == expected


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (replace(BRACKET, quantity=D("1.5")), "1.5 shares: a bracket takes whole shares only"),
        (replace(BRACKET, stop=D("199.995")), "no reliable price: stop or target is not beyond the quote"),
        (replace(BRACKET, target=D(199)), "no reliable price: stop or target is not beyond the quote"),
        (replace(BRACKET, reference_price=D("NaN")), "no reliable price"),
        (replace(BRACKET, reference_price=D(0)), "no reliable price"),
    ],
)
def test_what_cannot_be_a_bracket_is_a_simple_order_with_a_logged_reason(
    venue: KnownKeys, request_: Request, reason: str
) -> None:
    with structlog.testing.capture_logs() as logs:
        prepared = venue.prepare(request_)
    assert "order_class" not in json.loads(prepared.payload["body"])
    assert (prepared.rests_exits, prepared.payload["note"]) == (False, reason)
    assert [(one["event"], one["reason"]) for one in logs] == [("bracket_left_out", reason)]


def test_crypto_exits_and_a_venue_without_brackets_have_simple_orders(venue: KnownKeys, fake: Server) -> None:
    for request in (
        replace(COIN, stop=D(1), target=D(99999)),
        SELL,
        replace(SELL, stop=D(197), target=D(206)),
    ):
        assert "order_class" not in body(venue, request)
        assert not venue.prepare(request).rests_exits
    plain = KnownKeys(fake, stocks=("AAPL",), use_bracket_orders=False)
    assert body(plain, BRACKET)["time_in_force"] == "day"


@pytest.mark.parametrize(
    ("request_", "limit", "tif"),
    [
        (replace(BUY, quantity=D("1.5")), "200.5", "day"),
        (replace(BUY, side="sell", quantity=D("1.5")), "199.5", "day"),
        (BRACKET, "200.5", "gtc"),
        (replace(COIN, reference_price=D("0.000012345")), "0.000012376", "gtc"),
    ],
)
def test_entries_may_be_limit_orders_that_end_at_the_deadline(
    fake: Server, time: Any, request_: Request, limit: str, tif: str
) -> None:
    venue = KnownKeys(fake, stocks=("AAPL",), entry_limit_bps=25)
    members = body(venue, request_)
    assert (members["type"], members["limit_price"], members["time_in_force"]) == ("limit", limit, tif)
    assert body(venue, SELL)["type"] == "market"


def test_a_limit_order_is_canceled_at_its_deadline_with_its_legs(fake: Server, time: Any) -> None:
    venue = KnownKeys(fake, stocks=("AAPL",), entry_limit_bps=0)
    fake.broker.price("AAPL", "201")
    prepared = sent(venue, BRACKET)
    assert found(venue, prepared.ref).state == "accepted"
    time.to(BRACKET.deadline)
    venue.find(prepared.ref)
    assert found(venue, prepared.ref).state == "canceled"
    assert {leg.ended for leg in legs(venue, prepared).values()} == {True}


@pytest.mark.parametrize(
    "wrong", [{"stop_loss_pct": 100}, {"take_profit_pct": -1}, {"entry_limit_bps": 10_000}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="venue alpaca"):
        OrderOptions.of(wrong)


# --- the legs


def test_legs_wait_until_the_whole_entry_is_filled(venue: KnownKeys, fake: Server) -> None:
    fake.broker.fills = False
    prepared = sent(venue, BRACKET)
    account = fake.broker.account(ACCOUNT)
    fake.broker.fill(account, "mx-1", "1")
    assert {row["status"] for row in row_of(fake, "mx-1")["legs"]} == {"held"}
    known = legs(venue, prepared)
    assert {(leg.quantity, leg.filled, leg.ended) for leg in known.values()} == {(D(2), D(0), False)}
    fake.broker.fill(account, "mx-1")
    assert {row["status"] for row in row_of(fake, "mx-1")["legs"]} == {"new"}
    assert legs(venue, prepared) == known


@pytest.mark.parametrize(
    ("usd", "reason", "other"), [("196", "stop_loss", "take_profit"), ("207", "take_profit", "stop_loss")]
)
def test_a_leg_that_fills_is_found_by_its_own_reference_and_its_sibling_has_ended(
    venue: KnownKeys, fake: Server, usd: str, reason: str, other: str
) -> None:
    prepared = sent(venue, BRACKET)
    fake.broker.price("AAPL", usd)
    known = legs(venue, prepared)
    assert (known[reason].filled, known[reason].ended) == (D(2), True)
    assert (known[other].filled, known[other].ended) == (D(0), True)
    report = found(venue, known[reason].ref)
    assert (report.state, total(report.fills)) == ("filled", D(2))
    assert found(venue, known[other].ref).state == "canceled"


def test_a_leg_is_not_canceled_because_time_goes_by(venue: KnownKeys, fake: Server, time: Any) -> None:
    prepared = sent(venue, BRACKET)
    leg = legs(venue, prepared)["stop_loss"]
    time.move(days=3)
    assert found(venue, leg.ref).state == "accepted"
    assert row_of(fake, Ref.parse(leg.ref).client_order_id)["status"] == "new"


def test_a_leg_that_its_owner_moved_is_still_the_same_leg(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, BRACKET)
    before = legs(venue, prepared)
    account, row = (
        fake.broker.account(ACCOUNT),
        row_of(fake, Ref.parse(before["stop_loss"].ref).client_order_id),
    )
    moved = fake.broker.replace(account, row["id"], {"stop_price": "198"})
    assert legs(venue, prepared) == before
    fake.broker.price("AAPL", "197.5")
    assert row_of(fake, moved["client_order_id"])["status"] == "filled"
    known = legs(venue, prepared)
    assert (known["stop_loss"].ref, known["stop_loss"].filled) == (before["stop_loss"].ref, D(2))
    assert total(found(venue, known["stop_loss"].ref).fills) == D(2)
    row_of(fake, "mx-1")["legs"].remove(row)  # where Alpaca shows only the newest
    assert legs(venue, prepared) == known


@pytest.mark.parametrize(
    "word", ["pending_cancel", "suspended", "a_word_of_tomorrow", "replaced", "done_for_day"]
)
def test_a_leg_whose_status_is_not_final_has_not_ended(venue: KnownKeys, fake: Server, word: str) -> None:
    prepared = sent(venue, BRACKET)
    row_of(fake, Ref.parse(legs(venue, prepared)["stop_loss"].ref).client_order_id)["status"] = word
    assert not legs(venue, prepared)["stop_loss"].ended


def test_legs_that_are_not_shown_are_not_gone(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, BRACKET)
    row_of(fake, "mx-1")["legs"] = None
    with pytest.raises(Retryable, match="shows no legs"):
        legs(venue, prepared)
    with pytest.raises(Retryable, match="does not find"):
        legs(venue, venue.prepare(replace(BRACKET, client_order_id="mx-never")))


def test_the_legs_of_many_entries_are_read_in_one_list(venue: KnownKeys, fake: Server) -> None:
    orders = [sent(venue, replace(BRACKET, client_order_id=f"mx-{n}")) for n in range(5)]
    fake.requests.clear()
    answers = venue.exits([order.ref for order in orders])
    assert fake.lines() == ["GET /v2/orders"]
    assert {len(answer) for answer in answers.values() if isinstance(answer, tuple)} == {2}
    fake.misbehaves("maintenance", "GET", times=20)
    assert {type(answer) for answer in venue.exits([order.ref for order in orders]).values()} == {Retryable}


# --- before ours is sent


def test_alpaca_sells_no_share_twice_which_is_why_legs_end_first(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, BRACKET)
    with pytest.raises(Rejected) as refusal:
        sent(venue, SELL)
    assert refusal.value.code == "no_position"
    venue.release([prepared.ref])
    assert {leg.ended for leg in legs(venue, prepared).values()} == {True}
    assert found(venue, sent(venue, replace(SELL, client_order_id="mx-exit-2")).ref).state == "filled"
    assert fake.broker.account(ACCOUNT).held["AAPL"] == 0


def test_a_cancellation_that_waits_has_not_ended_and_is_asked_for_once(
    venue: KnownKeys, fake: Server
) -> None:
    prepared = sent(venue, BRACKET)
    fake.broker.slow_cancels = True
    venue.release([prepared.ref])
    assert {leg.ended for leg in legs(venue, prepared).values()} == {False}
    fake.requests.clear()
    venue.release([prepared.ref])
    assert not [line for line in fake.lines() if line.startswith("DELETE")]
    fake.broker.confirms_cancels()
    assert {leg.ended for leg in legs(venue, prepared).values()} == {True}


@pytest.mark.parametrize("fault", ["lost", "unsent", "broken", "limited"])
def test_a_cancellation_without_an_answer_proves_nothing(
    venue: KnownKeys, fake: Server, fault: str, time: Any
) -> None:
    prepared = sent(venue, BRACKET)
    fake.misbehaves(fault, "DELETE", times=2)
    venue.release([prepared.ref])
    time.move(seconds=61)
    ended = {leg.ended for leg in legs(venue, prepared).values()}
    assert ended == {row["status"] == "canceled" for row in row_of(fake, "mx-1")["legs"]}


def test_brackets_that_cannot_be_read_are_not_released(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, BRACKET)
    fake.misbehaves("maintenance", "GET")
    with pytest.raises(Unknown, match="1 of 1 brackets"):
        venue.release([prepared.ref])


def test_a_partly_filled_entry_is_canceled_with_its_held_legs(venue: KnownKeys, fake: Server) -> None:
    fake.broker.depth = D(1)
    prepared = sent(venue, BRACKET)
    fake.broker.fills = False
    venue.release([prepared.ref])
    report = found(venue, prepared.ref)
    assert (report.state, total(report.fills)) == ("canceled", D(1))
    assert {leg.ended for leg in legs(venue, prepared).values()} == {True}


def test_a_bracket_against_a_position_is_refused(venue: KnownKeys, fake: Server) -> None:
    fake.broker.account(ACCOUNT, held={"AAPL": D(-5)})
    with pytest.raises(Rejected, match="bracket orders must be entry orders"):
        sent(venue, BRACKET)
    assert effects(fake) == 0
