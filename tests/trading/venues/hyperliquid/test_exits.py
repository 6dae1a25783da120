"""Stops and targets that Hyperliquid keeps: sent with the entry, fire while we are down, never doubled by ours."""

import json
import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core.errors import Retryable, Unknown
from positions import book
from positions.exits import at_venue, sweep
from positions.models import Position
from tests import builders as make
from tests.builders import RecordedClock
from tests.trading.venues.hyperliquid.conftest import ACCOUNT
from tests.trading.venues.hyperliquid.server import Server
from tests.trading.venues.hyperliquid.test_orders import BUY, CLOSE, SHORT, found, sent
from tests.trading.venues.hyperliquid.world import KnownKeys
from trading import reconcile, settle
from trading.models import Order
from trading.risk.policy import policy
from trading.venues import background
from trading.venues.base import Leg, Request

D = Decimal
pytestmark = pytest.mark.django_db
LONG = replace(BUY, stop=D(1900), target=D("2300.123"))
SHORTED = replace(SHORT, stop=D(2100), target=D(1700))


@pytest.fixture(autouse=True)
def quoted(time: RecordedClock, db: None) -> None:
    make.price("ETH", "2000")
    make.price("BTC", "50000")


def legs_of(venue: KnownKeys, ref: str) -> dict[str, Leg]:
    answer = venue.exits([ref])[ref]
    assert isinstance(answer, tuple), answer
    return {leg.reason: leg for leg in answer}


@pytest.mark.parametrize(
    ("request_", "side", "stop", "target"),
    [
        (LONG, False, ("1900", "1843"), ("2300.1", "2231.1")),
        (SHORTED, True, ("2100", "2163"), ("1700", "1751")),
    ],
)
def test_an_entry_carries_its_stop_and_target_as_reduce_only_triggers(
    venue: KnownKeys, request_: Request, side: bool, stop: Any, target: Any
) -> None:
    prepared = venue.prepare(request_)
    action = json.loads(prepared.payload["action"])
    _, first, second = action["orders"]
    assert (prepared.rests_exits, action["grouping"]) == (True, "normalTpsl")
    for leg, word, (trigger, limit) in ((first, "tp", target), (second, "sl", stop)):
        assert leg["t"] == {"trigger": {"isMarket": True, "triggerPx": trigger, "tpsl": word}}
        assert (leg["b"], leg["r"], leg["s"], leg["p"]) == (side, True, "1.5", limit)
    assert venue.prepare(replace(CLOSE, stop=D(1900))).rests_exits is False
    assert venue.prepare(BUY).rests_exits is False


def test_they_wait_and_one_that_fires_cancels_the_other(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, LONG)
    assert {(leg.reason, leg.filled, leg.ended) for leg in legs_of(venue, prepared.ref).values()} == {
        ("stop_loss", 0, False), ("take_profit", 0, False),
    }  # fmt: skip
    fake.exchange.price("ETH", "1890")
    legs = legs_of(venue, prepared.ref)
    assert (legs["stop_loss"].filled, legs["stop_loss"].ended) == (D("1.5"), True)
    assert (legs["take_profit"].filled, legs["take_profit"].ended) == (0, True)
    report = found(venue, legs["stop_loss"].ref)
    assert (report.state, report.fills[0].price) == ("filled", D(1890))
    assert found(venue, legs["take_profit"].ref).state == "canceled"


@pytest.mark.parametrize(("usd", "reason"), [("2120", "stop_loss"), ("1690", "take_profit")])
def test_those_of_a_short_fire_on_the_other_side(
    venue: KnownKeys, fake: Server, usd: str, reason: str
) -> None:
    prepared = sent(venue, SHORTED)
    fake.exchange.price("ETH", usd)
    assert {name for name, leg in legs_of(venue, prepared.ref).items() if leg.filled} == {reason}
    assert venue.account(ACCOUNT).held == {}


def test_a_leg_whose_fills_are_not_shown_yet_has_not_ended(venue: KnownKeys, fake: Server) -> None:
    prepared = sent(venue, LONG)
    fake.exchange.price("ETH", "1890")
    fake.exchange.shown = 1
    leg = legs_of(venue, prepared.ref)["stop_loss"]
    assert (leg.filled, leg.ended) == (0, False)
    assert found(venue, leg.ref).state == "accepted"


def test_a_leg_that_filled_in_part_and_was_canceled_waits_for_its_fills(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    prepared = sent(venue, LONG)
    fake.exchange.leg_depth = D("0.4")
    fake.exchange.price("ETH", "1890")
    venue.release([prepared.ref])
    stop = next(one for one in venue.account(ACCOUNT).orders if one.get("tpsl") == "sl")
    assert (stop["status"], stop["order"]["sz"]) == ("canceled", "1.1")

    fake.exchange.shown = 1
    leg = legs_of(venue, prepared.ref)["stop_loss"]
    assert (leg.filled, leg.ended) == (0, False)
    fake.exchange.shown = None
    leg = legs_of(venue, prepared.ref)["stop_loss"]
    assert (leg.filled, leg.ended) == (D("0.4"), True)

    fake.exchange.shown = 1
    time.move(minutes=11)
    assert legs_of(venue, prepared.ref)["stop_loss"].ended, "fills that are not shown for so long never come"
    assert found(venue, leg.ref).state == "canceled"


def test_a_leg_of_an_unknown_status_has_not_ended(venue: KnownKeys) -> None:
    prepared = sent(venue, LONG)
    venue.account(ACCOUNT).orders[-1]["status"] = "aWordOfTomorrow"
    assert [leg.ended for leg in legs_of(venue, prepared.ref).values()] == [False, False]


def test_an_entry_that_is_not_filled_completely_keeps_no_exits(venue: KnownKeys, fake: Server) -> None:
    fake.exchange.depth, fake.exchange.levels = D("0.5"), 1
    prepared = sent(venue, LONG)
    assert {(leg.filled, leg.ended) for leg in legs_of(venue, prepared.ref).values()} == {(0, True)}


def test_exits_of_an_entry_that_is_not_known_are_unknown(venue: KnownKeys, fake: Server) -> None:
    never, prepared = venue.prepare(replace(LONG, client_order_id="mx-never")).ref, sent(venue, LONG)
    answers = venue.exits([never, prepared.ref])
    assert isinstance(answers[never], Retryable)
    assert isinstance(answers[prepared.ref], tuple)
    fake.misbehaves("maintenance", "orderStatus")
    assert isinstance(venue.exits([prepared.ref])[prepared.ref], Retryable)


@pytest.mark.parametrize("fault", ["lost", "maintenance", "limited"])
def test_releasing_cancels_both_and_asking_again_is_safe(venue: KnownKeys, fake: Server, fault: str) -> None:
    prepared = sent(venue, LONG)
    fake.misbehaves(fault, "cancelByCloid")
    with pytest.raises((Retryable, Unknown)):
        venue.release([prepared.ref])
    venue.client.forget_limits()
    for _ in range(2):
        venue.release([prepared.ref])
    assert {leg.ended for leg in legs_of(venue, prepared.ref).values()} == {True}


def test_many_are_released_side_by_side_and_one_that_fails_stops_no_other(
    venue: KnownKeys, fake: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [replace(LONG, account=f"perps:{n}", client_order_id=f"mx-{n}") for n in range(1, 5)]
    refs = [sent(venue, entry).ref for entry in entries]
    together, act = threading.Barrier(3), fake.exchange.act

    def wait(raw: str) -> Any:
        together.wait(timeout=60)
        return act(raw)

    monkeypatch.setattr(fake.exchange, "act", wait)
    fake.misbehaves("maintenance", "cancelByCloid")
    with pytest.raises((Retryable, Unknown)):
        venue.release(refs)
    assert not together.broken
    ended = [{leg.ended for leg in legs_of(venue, ref).values()} for ref in refs]
    assert (ended.count({True}), ended.count({False})) == (3, 1)


def test_legs_are_not_canceled_at_the_deadline_of_their_entry(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    prepared = sent(venue, LONG)
    time.to(LONG.deadline)
    leg = legs_of(venue, prepared.ref)["stop_loss"]
    assert found(venue, leg.ref).state == "accepted"
    assert "cancelByCloid" not in fake.kinds()


def test_watching_exits_leaves_the_rate_limit_to_what_must_be_read_now(
    venue: KnownKeys, fake: Server, time: RecordedClock
) -> None:
    """100 entries a minute, whatever else is read: then accounts are compared and exits released as before."""
    prepared = sent(venue, LONG)
    time.move(minutes=2)
    refs = [prepared.ref, *(prepared.ref.replace("mx-1", f"mx-{number}") for number in range(2, 130))]
    with background.reads():
        answers = list(venue.exits(refs).values())
        assert isinstance(venue.exits([prepared.ref])[prepared.ref], Retryable)
    limited = [one for one in answers if isinstance(one, Retryable) and one.limited]
    assert 29 <= len(limited) <= 37, "some are refused between their two questions"
    assert fake.kinds().count("orderStatus") == 200
    assert venue.balances(ACCOUNT)
    assert {leg.ended for leg in legs_of(venue, prepared.ref).values()} == {False}
    venue.release([prepared.ref])
    time.move(minutes=1)
    with background.reads():
        assert {leg.ended for leg in legs_of(venue, prepared.ref).values()} == {True}


def test_the_option_switches_them_off(fake: Server) -> None:
    assert KnownKeys(fake, resting_exits=False).prepare(LONG).rests_exits is False


# --- in the product


@pytest.fixture
def opened(
    fake: Server, venue: KnownKeys, time: RecordedClock, deployment: Any, no_approval_file: object
) -> Position:
    make.open_gate()
    by = make.signal(deployment.agent, leverage=D(3))
    make.place(make.order(deployment, by=by, leverage=D(3)), venue, policy())
    book.book()
    position = Position.objects.get()
    assert position.entry_order.exits_at_venue == "resting"
    return position


def test_a_stop_that_fired_while_we_were_down_closes_the_position(
    fake: Server, venue: KnownKeys, opened: Position
) -> None:
    fake.exchange.price("ETH", "1700")
    assert at_venue.watch() == 1
    settle.settle_due("close")
    book.book()
    opened.refresh_from_db()
    assert (opened.state, opened.exit_reason, opened.exit_price) == ("closed", "stop_loss", D(1700))
    assert reconcile.drifts() == {}
    assert Order.objects.filter(purpose="close").count() == 1
    opened.entry_order.refresh_from_db()
    assert opened.entry_order.exits_at_venue == "ended"


@pytest.mark.parametrize("fires", [False, True])
def test_our_exit_and_that_of_the_venue_never_both_fill(
    fake: Server, venue: KnownKeys, opened: Position, fires: bool
) -> None:
    """The stop fires at the moment when we close by hand, or not."""
    assert sweep.close([opened.pk]) == 1
    if fires:
        fake.exchange.price("ETH", "1700")
    held = list(Order.objects.filter(purpose="close", state="planned"))
    free = [order for round_ in at_venue.release(held) for order in round_]
    assert bool(free) != fires
    for order in free:
        make.place(order, venue, policy())
    settle.settle_due("close")
    book.book()
    opened.refresh_from_db()
    assert (opened.state, opened.exit_reason) == ("closed", "stop_loss" if fires else "manual")
    assert venue.account(ACCOUNT).held == {}
    assert sum(fill["side"] == "A" for fill in venue.account(ACCOUNT).fills) == 1
    assert reconcile.drifts() == {}
