"""Exits that the venue keeps: what they fill is booked once, and ours never fills beside them."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from maxxit.events.record import subject
from positions import book, manual_close
from positions.exits import at_venue, sweep
from positions.models import Position
from positions.tasks import exit_pass
from tests import builders as make
from tests.builders import RecordedClock
from tests.positions.exits.resting import RestingVenue
from tests.trading.conftest import Trader
from tests.trading.test_race import at_once
from trading import ledger, settle
from trading.models import Fill, LedgerEntry, Order
from trading.reconcile import compare_settled
from trading.venues.base import Venue

D = Decimal


class RestingTrader(Trader):
    """A trader whose venue keeps exits."""

    venue: RestingVenue

    def entered(self, *, filled: str = "") -> Position:
        """A position whose stop and target rest at the venue; with `filled`, of an entry that is filled in part."""
        self.venue.fills_at_once = not filled
        order = self.placed()
        if filled:
            self.venue.fill(order.venue_ref, filled)
            settle.settle_due()
        self.venue.fills_at_once = True
        book.book()
        return Position.objects.get(entry_order=order)

    def everything_runs(self) -> None:
        """Each pass of the workers, until nothing changes."""
        for _ in range(4):
            self.time.move(seconds=3)
            at_venue.watch()
            exit_pass()
            settle.settle_due()
            book.book()

    def sold(self) -> Decimal:
        """Tokens that left the account at the venue."""
        rows = self.venue.book.values()
        return sum(
            (fill.quantity for row in rows if row.request["side"] == "sell" for fill in row.fills), D(0)
        )


@pytest.fixture
def trader(
    db: None,
    time: RecordedClock,
    no_approval_file: object,
    use_venue: Callable[[Venue], None],
    monkeypatch: pytest.MonkeyPatch,
) -> RestingTrader:
    monkeypatch.setattr(at_venue, "PAUSES", (0.0, 0.0))
    venue = RestingVenue()
    use_venue(venue)
    make.open_gate()
    make.price("ETH", "2000")
    agent = make.agent(exit_preset="conservative")
    return RestingTrader(agent, make.booked_deployment(agent), venue, time)


def one_more(trader: RestingTrader) -> RestingTrader:
    """Another account at the same venue."""
    return RestingTrader(trader.agent, make.booked_deployment(trader.agent), trader.venue, trader.time)


def entry_of(position: Position) -> Order:
    return Order.objects.get(pk=position.entry_order_id)


def closed(position: Position, by: str) -> Position:
    """The position, closed once and whole: what was sold at the venue is what it held and what is booked."""
    position.refresh_from_db()
    assert (position.state, position.exit_reason) == ("closed", by)
    sold = sum(Fill.objects.filter(order__purpose="close").values_list("quantity", flat=True))
    assert (sold, position.closed_quantity) == (position.quantity, position.quantity)
    entry = entry_of(position)
    assert entry.exits_at_venue == "ended"
    assert not Order.objects.filter(state__in=("planned", "sending", "accepted")).exists()
    return position


def test_an_entry_takes_its_levels_along_in_whole_ticks(trader: RestingTrader) -> None:
    entry = entry_of(trader.entered())
    assert entry.prepared["exits"] == {"stop_loss": "1980.00", "take_profit": "2040.00"}
    assert entry.exits_at_venue == "resting"


def test_a_short_takes_mirrored_levels(trader: RestingTrader) -> None:
    entry = trader.placed(side="short")
    assert entry.prepared["exits"] == {"stop_loss": "2020.00", "take_profit": "1960.00"}


@pytest.mark.parametrize("reason", ["stop_loss", "take_profit"])
def test_what_the_venue_sold_while_everything_was_down_is_booked_once(
    trader: RestingTrader, reason: str
) -> None:
    position = trader.entered()
    trader.venue.fires(entry_of(position).venue_ref, reason)
    trader.time.move(hours=9)
    trader.everything_runs()

    found = closed(position, reason)
    assert found.exit_price == (D(1980) if reason == "stop_loss" else D(2040))
    assert make.event_names(of=subject(position)) == ["position.open", "position.closing", "position.closed"]
    assert trader.sold() == position.quantity
    account = ledger.account_of(trader.deployment.pk)
    held = sum(LedgerEntry.objects.filter(account=account, asset="ETH").values_list("amount", flat=True))
    assert held == 0


def test_an_exit_is_adopted_once_however_often_it_is_read(trader: RestingTrader) -> None:
    position = trader.entered()
    ref = entry_of(position).venue_ref
    trader.venue.fires(ref, "stop_loss", "0.1")
    for _ in range(3):
        at_venue.watch()
    [leg] = Order.objects.filter(purpose="close")
    assert (leg.venue_ref, leg.state, leg.exit_reason) == (f"{ref}:stop_loss", "accepted", "stop_loss")

    trader.venue.fires(ref, "stop_loss")
    trader.everything_runs()
    closed(position, "stop_loss")


def test_an_exit_that_fills_in_part_and_stands_still_is_canceled_and_ours_closes_the_rest(
    trader: RestingTrader,
) -> None:
    position = trader.entered()
    trader.venue.fires(entry_of(position).venue_ref, "take_profit", "0.1")
    trader.everything_runs()
    position.refresh_from_db()
    assert position.state == "closing"

    trader.time.move(seconds=31)
    make.price("ETH", "1970")  # below the stop, which the venue canceled with the first fill
    trader.everything_runs()
    trader.everything_runs()
    closed(position, "stop_loss")
    assert trader.sold() == position.quantity


def test_ours_waits_until_the_venue_says_that_its_exits_have_ended(
    trader: RestingTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_venue, "PAUSES", (0.0,))
    position = trader.entered()
    trader.venue.cancels.append("slow")
    make.price("ETH", "1970")
    assert exit_pass().detail["held"] == 1
    assert trader.sold() == 0
    [ours] = Order.objects.filter(purpose="close")
    assert ours.state == "planned"
    asked = trader.venue.asked
    exit_pass()
    assert (trader.venue.asked, trader.sold()) == (asked, 0), "it asks again after some seconds only"
    trader.everything_runs()
    closed(position, "stop_loss")
    assert trader.sold() == position.quantity


def test_ours_leaves_at_once_while_the_exits_of_another_position_do_not_end(trader: RestingTrader) -> None:
    trader.venue.capabilities = replace(trader.venue.capabilities, batch=10)
    stuck, free = trader.entered(), one_more(trader).entered()
    trader.venue.stuck = {entry_of(stuck).venue_ref}
    sold: list[Decimal] = []
    trader.venue.on_release = lambda: sold.append(trader.sold())
    make.price("ETH", "1970")

    assert exit_pass().detail["held"] == 1
    assert sold == [0, free.quantity], "before each round of cancellations"
    trader.venue.on_release = lambda: None
    trader.venue.stuck.clear()
    trader.everything_runs()
    for position in (stuck, free):
        position.refresh_from_db()
        assert position.state == "closed"


@pytest.mark.parametrize("how", ["ok", "silent"])
def test_a_cancellation_without_an_answer_that_took_effect_lets_ours_go(
    trader: RestingTrader, how: str
) -> None:
    position = trader.entered()
    trader.venue.cancels.append(how)
    make.price("ETH", "1970")
    trader.everything_runs()
    closed(position, "stop_loss")
    assert trader.venue.effects[Order.objects.get(purpose="close").client_order_id or ""] == 1


def test_a_cancellation_that_was_lost_is_no_cancellation(trader: RestingTrader) -> None:
    """The venue's stop fires after our cancellation timed out: ours must not be on its way."""
    position = trader.entered()
    ref = entry_of(position).venue_ref
    trader.venue.cancels.extend(["lost"] * 2)
    make.price("ETH", "1970")
    exit_pass()
    assert entry_of(position).exits_at_venue == "resting"
    trader.venue.fires(ref, "stop_loss")
    trader.everything_runs()

    closed(position, "stop_loss")
    assert trader.sold() == position.quantity
    assert sorted(Order.objects.filter(purpose="close").values_list("state", "reason")) == [
        ("blocked", "exits_at_venue"),
        ("filled", ""),
    ]


def test_an_exit_that_fills_before_our_cancellation_takes_the_place_of_ours(trader: RestingTrader) -> None:
    position = trader.entered()
    ref = entry_of(position).venue_ref

    def fires_first() -> None:
        trader.venue.on_release = lambda: None
        trader.venue.fires(ref, "take_profit")

    trader.venue.on_release = fires_first
    make.price("ETH", "2100")
    trader.everything_runs()
    closed(position, "take_profit")
    assert trader.sold() == position.quantity


def test_what_an_exit_sold_before_it_was_canceled_is_not_sold_again(trader: RestingTrader) -> None:
    position = trader.entered()
    ref = entry_of(position).venue_ref

    def fires_in_part() -> None:
        trader.venue.on_release = lambda: None
        trader.venue.fires(ref, "stop_loss", "0.1")

    trader.venue.on_release = fires_in_part
    make.price("ETH", "1970")
    for _ in range(3):
        trader.everything_runs()
    closed(position, "stop_loss")
    assert trader.sold() == position.quantity
    assert sorted(Fill.objects.filter(order__purpose="close").values_list("quantity", flat=True))[0] == D(
        "0.1"
    )


def test_both_exits_with_fills_are_booked_one_after_the_other(trader: RestingTrader) -> None:
    position = trader.entered()
    ref = entry_of(position).venue_ref
    trader.venue.legs(ref)
    trader.venue.fill(f"{ref}:take_profit", "0.1", state="canceled")
    trader.venue.fill(f"{ref}:stop_loss", f"{position.quantity - D('0.1')}", state="canceled")
    trader.everything_runs()
    trader.everything_runs()
    position.refresh_from_db()
    assert position.state == "closed"
    assert trader.sold() == position.closed_quantity == position.quantity
    assert entry_of(position).exits_at_venue == "ended"


def test_a_partly_filled_entry_is_guarded_by_our_sweep(trader: RestingTrader) -> None:
    """Its exits are held at the venue until it is filled: ours closes the part, and the rest is canceled first."""
    position = trader.entered(filled="0.2")
    entry = entry_of(position)
    assert {leg.state for leg in trader.venue.legs(entry.venue_ref).values()} == {"held"}
    make.price("ETH", "1970")
    trader.everything_runs()
    closed(position, "stop_loss")
    assert trader.sold() == D("0.2")
    assert entry_of(position).state == "canceled"


def test_by_hand_and_by_the_kill_switch_it_goes_the_same_way(trader: RestingTrader) -> None:
    position = trader.entered()
    trader.venue.cancels.append("lost")
    trader.venue.cancels.append("lost")
    asked = manual_close.close_by_hand(position, by="owner")
    assert asked.started
    exit_pass()
    assert trader.sold() == 0
    trader.everything_runs()
    closed(position, "manual")


def test_at_a_closed_market_the_venue_keeps_its_exits(trader: RestingTrader) -> None:
    """Our order would be refused: the position must not lose what protects it at the opening."""
    position = trader.entered()
    trader.venue.objection = "market_closed"
    make.price("ETH", "1970")
    trader.everything_runs()
    position.refresh_from_db()
    assert position.state == "open"
    assert {leg.state for leg in trader.venue.legs(entry_of(position).venue_ref).values()} == {"new"}

    trader.venue.objection = ""
    trader.time.move(minutes=6)
    make.price("ETH", "1970")
    trader.everything_runs()
    closed(position, "stop_loss")


def test_a_venue_that_cannot_be_read_changes_nothing(trader: RestingTrader) -> None:
    position = trader.entered()
    trader.venue.questions.extend(["away"] * 3)
    assert at_venue.watch() == 0
    make.price("ETH", "1970")
    exit_pass()
    assert (entry_of(position).exits_at_venue, trader.sold()) == ("resting", 0)


def test_an_exit_that_filled_a_moment_ago_is_no_unexplained_difference(
    trader: RestingTrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = trader.entered()
    booked = {"ETH": position.quantity}
    cash = sum(
        LedgerEntry.objects.filter(account=ledger.account_of(trader.deployment.pk), asset="USDC").values_list(
            "amount", flat=True
        )
    )
    monkeypatch.setattr(
        trader.venue, "balances", lambda account: {"USDC": cash + 500, "ETH": booked["ETH"] - D("0.1")}
    )
    assert compare_settled().differences
    trader.venue.fires(entry_of(position).venue_ref, "stop_loss", "0.1")
    assert not compare_settled().differences
    at_venue.watch()
    assert not compare_settled().differences  # now an order of ours is in flight


def test_the_exits_of_an_entry_that_never_filled_have_ended(trader: RestingTrader) -> None:
    trader.venue.fills_at_once = False
    order = trader.placed()
    trader.venue.cancel(order.venue_ref)
    settle.settle_due()
    assert at_venue.watch() == 1
    order.refresh_from_db()
    assert order.exits_at_venue == "ended"


def test_the_exits_of_a_position_that_closed_otherwise_are_canceled(trader: RestingTrader) -> None:
    position = trader.entered()
    Position.objects.filter(pk=position.pk).update(state="closed")
    at_venue.watch()
    entry = entry_of(position)
    assert {leg.state for leg in trader.venue.legs(entry.venue_ref).values()} == {"canceled"}
    assert entry.exits_at_venue == "ended"


def test_a_rate_limit_lets_all_be_watched_in_turn_and_never_keeps_ours_waiting(trader: RestingTrader) -> None:
    accounts = [trader, *(one_more(trader) for _ in range(2))]
    entries = [entry_of(one.entered()).venue_ref for one in accounts]
    first, second, third = entries
    trader.venue.fires(third, "stop_loss")
    trader.venue.read.clear()
    changes = []
    for _ in range(3):
        trader.venue.allowed = 2
        changes.append(at_venue.watch())
        trader.time.move(seconds=15)
    assert trader.venue.read == [first, second, third, first, second, first]
    assert changes == [0, 1, 0]

    trader.venue.allowed = 0
    make.price("ETH", "1970")
    assert exit_pass().detail["sent"] == 2


@pytest.mark.django_db(transaction=True)
def test_sweeps_watches_and_the_venue_at_the_same_time_sell_once(trader: RestingTrader) -> None:
    """Two exits workers and two watches race while the venue's stop fires between them."""
    for number in range(6):
        trader.time.move(hours=9)
        make.price("ETH", "2000")
        position = trader.entered()
        ref, before = entry_of(position).venue_ref, trader.sold()
        make.price("ETH", "1970")
        if number % 2:
            sweep.sweep()

        def fires(ref: str = ref) -> None:
            with trader.venue._lock:
                if trader.venue.legs(ref)["stop_loss"].state == "new":
                    trader.venue.fires(ref, "stop_loss")

        results = at_once([exit_pass, at_venue.watch, fires, at_venue.watch, exit_pass])
        assert not [one for one in results if isinstance(one, Exception)]
        trader.everything_runs()
        position.refresh_from_db()
        assert position.state == "closed"
        assert trader.sold() - before == position.quantity
