"""Closing goes on when our quotes are stale, and a flatten says what it left open and why."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.market.models import Quote
from positions import book, flatten
from positions.exits import sweep
from positions.models import Position
from positions.tasks import exit_pass
from tests import builders as make
from tests.builders import RecordedClock
from tests.passes import execute_pass, monitor_pass
from tests.trading.conftest import Trader
from tests.trading.conftest import trader as trader
from trading import gate
from trading.models import Order, PaperFill

D = Decimal
pytestmark = pytest.mark.django_db


@pytest.fixture
def held(time: RecordedClock, no_approval_file: object) -> Position:
    """An open position at the paper exchange, entered at 2000 USD; our quotes are five minutes old."""
    make.open_gate()
    agent = make.agent()
    make.deployment(agent)
    make.price("ETH", "2000")
    make.signal(agent)
    execute_pass()
    monitor_pass()
    time.move(minutes=5)
    return Position.objects.get()


def close_all() -> Position:
    exit_pass()
    monitor_pass()
    return Position.objects.get()


def pull(level: str = "flatten") -> None:
    gate.kill(level, by="ana", reason="out, now")


def test_a_flatten_closes_at_the_last_known_price_and_the_fill_says_how_old_it_was(held: Position) -> None:
    pull()
    closed = close_all()

    assert (closed.state, closed.exit_reason) == ("closed", "kill_switch")
    fill = PaperFill.objects.latest("pk")
    assert fill.quote_age_seconds == 300
    assert fill.price < D(2000)  # worse by the slippage


def test_a_manual_close_goes_on_when_quotes_are_stale(held: Position) -> None:
    assert sweep.close([held.pk]) == 1
    closed = close_all()

    assert (closed.state, closed.exit_reason) == ("closed", "manual")


def test_a_manual_close_goes_on_when_there_is_no_quote_at_all(held: Position) -> None:
    Quote.objects.all().delete()
    sweep.close([held.pk])
    entry = PaperFill.objects.latest("pk").price
    closed = close_all()

    assert closed.state == "closed"
    fill = PaperFill.objects.latest("pk")
    assert (fill.quote_age_seconds, fill.price < entry) == (None, True)


@pytest.mark.parametrize("level", ["", "no_entries", "reduce_only"])
def test_a_stop_loss_still_waits_for_a_fresh_quote(held: Position, level: str, time: RecordedClock) -> None:
    make.price("ETH", "1000", at=time.now - timedelta(minutes=5))
    if level:
        pull(level)

    assert close_all().state == "open"
    assert flatten.unclosed() == []


def test_a_claimed_stop_loss_is_not_sent_on_a_quote_that_has_aged_since(
    held: Position, time: RecordedClock
) -> None:
    make.price("ETH", "1000")
    sweep.sweep()
    time.move(minutes=5)

    assert close_all().state != "closed"
    order = Order.objects.get(purpose="close")
    assert (order.state, order.reason) == ("blocked", "no_price")  # not asked of the venue
    assert PaperFill.objects.count() == 1


def test_a_position_behind_a_shut_gate_is_listed_with_that_reason_once(held: Position) -> None:
    pull()
    gate.set_dry_run("paper", True, by="ana", reason="maintenance")
    for _ in range(3):
        exit_pass()

    [left] = flatten.unclosed()
    assert (left.position, left.venue, left.reason) == (held.pk, "paper", "dry_run")
    [event] = Event.objects.filter(name="flatten.unclosed")
    assert (event.data["count"], event.data["positions"][0]["reason"]) == (1, "dry_run")
    gate.set_dry_run("paper", False, by="ana", reason="done")
    assert close_all().state == "closed"
    assert flatten.unclosed() == []


def test_an_account_s_flatten_lists_that_account_s_positions_alone(held: Position) -> None:
    gate.kill("flatten", by="ana", reason="this one", account="somebody else")
    gate.set_dry_run("paper", True, by="ana", reason="maintenance")

    assert flatten.unclosed() == []


# --- the back-off of refused exits ---------------------------------------------------------------------------------


def refused_position(trader: Trader, refusals: int) -> Position:
    """A position whose last so many closing orders the venue refused, each as soon as it was due."""
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.fill(order.venue_ref)
    execute_pass()
    book.book()
    for _ in range(refusals):
        make.price("ETH", "1500")
        trader.venue.sends.append("refused")
        exit_pass()
        book.book()
        position = Position.objects.get()
        assert position.exit_retry_at is not None
        trader.time.to(position.exit_retry_at)
    return Position.objects.get()


def rest(position: Position, trader: Trader) -> Any:
    position.refresh_from_db()
    return (
        None if position.exit_retry_at is None else (position.exit_retry_at - trader.time.now).total_seconds()
    )


def refuse(trader: Trader) -> None:
    make.price("ETH", "1500")
    trader.venue.sends.append("refused")
    exit_pass()
    book.book()


def test_refusals_in_a_row_make_the_pause_grow(trader: Trader) -> None:
    position = refused_position(trader, 3)
    refuse(trader)

    assert (position.exit_refusals, rest(position, trader)) == (3, 16)


def test_a_refusal_long_after_the_last_counts_from_one(trader: Trader) -> None:
    position = refused_position(trader, 6)
    trader.time.move(minutes=16)
    refuse(trader)

    assert rest(position, trader) == 2


def test_an_exit_that_never_arrived_is_no_refusal(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a venue where nothing is sent twice: a connection that fails ends the order."""
    position = refused_position(trader, 6)
    lost = Rejected("the order did not reach the venue", code="never_arrived")
    with monkeypatch.context() as patch:
        patch.setattr(trader.venue, "send_many", lambda orders: {one.ref: lost for one in orders})
        for _ in range(2):
            make.price("ETH", "1500")
            exit_pass()
            book.book()
            assert rest(position, trader) == 2
            assert (position.state, position.exit_refusals) == ("open", 6)
            trader.time.move(seconds=2)
    refuse(trader)

    assert (rest(position, trader), position.exit_refusals) == (128, 7)


def test_a_person_s_close_forgets_the_refusals(trader: Trader) -> None:
    position = refused_position(trader, 6)
    trader.venue.sends.append("refused")
    sweep.close([position.pk])
    exit_pass()
    book.book()

    assert rest(position, trader) == 2


def test_a_partial_exit_forgets_the_refusals(trader: Trader) -> None:
    position = refused_position(trader, 6)
    make.price("ETH", "1500")
    exit_pass()
    position.refresh_from_db()
    out = Order.objects.get(pk=position.exit_order_id or 0)
    trader.venue.fill(out.venue_ref, "0.1")
    trader.venue.cancel(out.venue_ref)
    exit_pass()
    book.book()
    position.refresh_from_db()

    assert (position.state, position.exit_refusals) == ("open", 0)


@pytest.mark.parametrize("opens", ["gate", "approval"])
def test_a_position_leaves_at_once_when_the_gate_opens_again(trader: Trader, opens: str) -> None:
    position = refused_position(trader, 6)
    refuse(trader)
    assert rest(position, trader) == 128
    gate.set_dry_run("paper", True, by="ana", reason="maintenance")
    trader.time.move(seconds=5)
    make.price("ETH", "1500")
    assert exit_pass().detail["leaving"] == 0
    if opens == "approval":
        gate.set_dry_run("paper", False, by="ana", reason="done")
    else:
        gate.approve("paper", by="ana", until=trader.time.now + timedelta(days=1), reason="done")
        gate.set_dry_run("paper", False, by="ana", reason="done")

    assert exit_pass().detail["leaving"] == 1


def test_an_exit_that_the_gate_stopped_is_no_refusal(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    position = refused_position(trader, 1)
    make.price("ETH", "1500")
    assert sweep.sweep() == 1
    gate.set_dry_run("paper", True, by="ana", reason="maintenance")
    exit_pass()
    book.book()
    position.refresh_from_db()

    assert (position.state, position.exit_refusals, position.exit_retry_at) == ("open", 1, None)
