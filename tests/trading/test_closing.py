"""Closing orders side by side: a stuck account delays itself, no account has two under way, nothing is lost."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from maxxit.core.errors import Misconfigured, Retryable
from maxxit.market import quotes
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from trading import closing, ledger, passes
from trading.models import JournalKind, Order
from trading.risk.facts import Exits
from trading.risk.policy import policy
from trading.rows import load_orders
from trading.venues.base import Venue, VenueAnswer

D = Decimal
SECONDS = 20
"""After which a test that waits has failed."""


def due(pk: int, account: str, *, venue: str = "paper") -> closing.DueOrder:
    return closing.DueOrder(pk, venue, account, planned=True)


def start(lanes: closing.Lanes, wanted: closing.DueOrder, work: Callable[[], None]) -> bool:
    """Start `work` if the account and a thread of the venue are free."""
    batch = lanes.next_batch([wanted], wanted.venue)
    if batch:
        lanes.start(batch, work)
    return bool(batch)


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No venue takes batches."""
    monkeypatch.setattr(closing, "batch_size", lambda _: 1)


class Gate:
    """Work that stands still until it is let go."""

    def __init__(self) -> None:
        self.begun, self.open, self.ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.open.wait(SECONDS)
        self.ended.set()


@pytest.fixture
def stuck() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


NewLanes = Callable[[int], closing.Lanes]


@pytest.fixture
def new_lanes() -> Iterator[NewLanes]:
    """Make lanes whose threads and connections end with the test."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(contextlib.closing(closing.Lanes(size)))


# --- lanes ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_at_a_time")
def test_an_account_has_one_order_under_way(stuck: Gate) -> None:
    lanes = closing.Lanes(4)
    assert start(lanes, due(1, "a"), stuck)
    assert stuck.begun.wait(SECONDS)

    assert not start(lanes, due(2, "a"), lambda: None)
    assert start(lanes, due(3, "b"), lambda: None)


@pytest.mark.usefixtures("one_at_a_time")
def test_an_account_is_free_again_when_its_order_is_done(stuck: Gate) -> None:
    lanes = closing.Lanes(4)
    start(lanes, due(1, "a"), stuck)
    stuck.open.set()
    lanes.wait(SECONDS)

    assert start(lanes, due(2, "a"), lambda: None)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_venue_whose_lanes_are_all_busy_leaves_the_other_venues_theirs(stuck: Gate) -> None:
    lanes = closing.Lanes(1)
    assert start(lanes, due(1, "a"), stuck)

    assert not start(lanes, due(2, "b"), lambda: None)
    assert start(lanes, due(3, "c", venue="safe"), lambda: None)


def test_the_orders_of_a_venue_on_the_network_are_shared_by_its_threads(
    monkeypatch: pytest.MonkeyPatch, stuck: Gate
) -> None:
    monkeypatch.setattr(closing, "batch_size", lambda _: 100)
    monkeypatch.setattr(closing, "is_local", lambda _: False)
    lanes = closing.Lanes(4)
    waiting = [due(pk, f"account {pk}") for pk in range(10)]
    sizes = []
    while batch := lanes.next_batch(waiting, "paper"):
        lanes.start(batch, stuck)
        sizes.append(len(batch))
        waiting = [one for one in waiting if one not in batch]

    assert sizes == [3, 3, 2, 2]


@pytest.mark.usefixtures("one_at_a_time")
def test_an_error_in_a_lane_ends_that_step_only() -> None:
    lanes = closing.Lanes(1)
    ran: list[int] = []

    def broken() -> None:
        raise ZeroDivisionError

    assert start(lanes, due(1, "a"), broken)
    lanes.wait(SECONDS)
    assert start(lanes, due(2, "a"), lambda: ran.append(2))
    lanes.wait(SECONDS)

    assert ran == [2]


@pytest.mark.usefixtures("one_at_a_time")
def test_without_lanes_a_step_runs_at_once() -> None:
    ran: list[int] = []
    lanes = closing.Lanes(0)

    assert start(lanes, due(1, "a"), lambda: ran.append(1))
    assert (ran, lanes.wait(0)) == ([1], False)


# --- passes --------------------------------------------------------------------------------------------------------


class StuckVenue(FakeVenue):
    """A venue that does not answer about some accounts until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck_accounts: set[str] = set()
        self.open, self.begun = threading.Event(), threading.Event()
        self.asked: list[str] = []

    def problem(self, deployment: int, account: str, symbol: str, purpose: str) -> str:
        self.asked.append(account)
        if account in self.stuck_accounts:
            self.begun.set()
            assert self.open.wait(SECONDS)
        return super().problem(deployment, account, symbol, purpose)


@pytest.fixture
def slow_venue(
    time: RecordedClock, no_approval_file: object, use_venue: Callable[[Venue], None]
) -> Iterator[StuckVenue]:
    venue = StuckVenue()
    use_venue(venue)
    make.open_gate()
    make.price("ETH", "2000")
    yield venue
    venue.open.set()


def closing_orders(count: int, each: int = 1) -> list[Order]:
    """Planned closing orders of so many accounts that hold what they close."""
    made = []
    agent = make.agent()
    for _ in range(count):
        deployment = make.booked_deployment(agent)
        held = ledger.Move("venue:paper", f"deployment:{deployment.pk}", "ETH", D(each), "trade")
        ledger.post(JournalKind.FILL, f"held:{deployment.pk}", [held])
        made += [make.order(deployment, purpose="close", side="sell", quantity=D("0.4")) for _ in range(each)]
    return made


def states() -> list[str]:
    return list(Order.objects.filter(purpose="close").order_by("pk").values_list("state", flat=True))


@pytest.mark.django_db(transaction=True)
def test_orders_of_many_accounts_leave_in_one_pass(slow_venue: StuckVenue, new_lanes: NewLanes) -> None:
    closing_orders(6, each=2)
    closed = closing.run(lambda: closing.Claimed(0), new_lanes(4))

    assert states() == ["filled"] * 12
    assert (closed.placed.due, closed.placed.sent, closed.placed.blocked) == (12, 12, {})
    assert set(slow_venue.effects.values()) == {1}


@pytest.mark.django_db(transaction=True)
def test_a_stuck_account_delays_itself_alone_and_the_next_pass_leaves_it_alone(
    slow_venue: StuckVenue, new_lanes: NewLanes
) -> None:
    first, *_ = closing_orders(5)
    slow_venue.stuck_accounts = {first.account}
    lanes = new_lanes(4)
    closing.run(lambda: closing.Claimed(0), lanes)
    assert states() == ["planned"] + ["filled"] * 4
    closing.run(lambda: closing.Claimed(0), lanes)
    assert slow_venue.asked.count(first.account) == 1
    slow_venue.open.set()
    while lanes.wait(SECONDS):
        pass
    closing.run(lambda: closing.Claimed(0), lanes)

    assert states() == ["filled"] * 5


@pytest.mark.django_db(transaction=True)
def test_exits_are_claimed_while_an_account_is_stuck(slow_venue: StuckVenue, new_lanes: NewLanes) -> None:
    [first] = closing_orders(1)
    slow_venue.stuck_accounts = {first.account}
    lanes = new_lanes(2)
    later: list[Order] = []

    def claim() -> closing.Claimed:
        if slow_venue.begun.is_set() and not later:
            later.extend(closing_orders(1))
        return closing.Claimed(len(later))

    for _ in range(2):
        closing.run(claim, lanes)

    assert states() == ["planned", "filled"]
    slow_venue.open.set()
    while lanes.wait(
        SECONDS
    ):  # no thread outlives the test: it would hold rows while the database is emptied
        pass


@pytest.mark.django_db
def test_a_pass_whose_time_is_over_leaves_the_rest_and_wakes_the_next(
    slow_venue: StuckVenue,
    woken: set[str],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    closing_orders(3)
    looks = iter([True, True, False])  # for the pass, for its first order, then no more
    monkeypatch.setattr(passes.TimeBudget, "left", lambda budget: next(looks, False))
    with django_capture_on_commit_callbacks(execute=True):
        closing.run(lambda: closing.Claimed(0), closing.Lanes(0))

    assert states() == ["filled", "planned", "planned"]
    assert "positions.tasks.sweep_exits" in woken


@pytest.mark.django_db
def test_what_is_in_flight_is_asked_about_after_everything_was_placed(slow_venue: StuckVenue) -> None:
    slow_venue.fills_at_once = False
    waiting, *_ = closing_orders(1)
    closing.run(lambda: closing.Claimed(0), closing.Lanes(0))
    closing_orders(1)

    assert [one.planned for one in closing.due_orders()] == [True, False]
    slow_venue.fill(Order.objects.get(pk=waiting.pk).venue_ref)
    closing.run(lambda: closing.Claimed(0), closing.Lanes(0))
    assert states() == ["filled", "accepted"]


@pytest.mark.django_db
def test_an_order_that_the_venue_does_not_take_is_tried_once_a_pass(slow_venue: StuckVenue) -> None:
    closing_orders(1)
    slow_venue.objection = Retryable("away")
    closed = closing.run(lambda: closing.Claimed(0), closing.Lanes(0))

    assert closed.placed.blocked == {"venue_unreadable": 1}
    assert len(slow_venue.asked) == 1


@pytest.mark.django_db
def test_a_venue_that_cannot_be_opened_holds_up_no_other_venues_exits(
    slow_venue: StuckVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @cache
    def opened(name: str) -> Venue:
        if name == "gone":
            raise Misconfigured("venue gone: no such adapter")
        return slow_venue

    gone, fine = closing_orders(2)
    Order.objects.filter(pk=gone.pk).update(venue="gone")
    for module in ("trading.wiring", "trading.closing"):
        monkeypatch.setattr(f"{module}.venue", opened)
    closing.run(lambda: closing.Claimed(0), closing.Lanes(0))

    assert states() == ["planned", "filled"]
    gone.refresh_from_db()
    assert (gone.attempts, "no such adapter" in gone.last_error) == (1, True)
    assert fine.pk > gone.pk


@pytest.mark.django_db
def test_a_batch_without_quotes_looks_once_for_the_last_price_of_a_symbol(
    slow_venue: StuckVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    last_known = quotes.last_known

    def look(symbol: str) -> quotes.Quote | None:
        asked.append(symbol)
        return last_known(symbol)

    orders = closing_orders(3)
    Order.objects.update(exit_reason="kill_switch")
    quotes.QuoteRow.objects.update(at=make.T0 - quotes.max_age() * 2)
    monkeypatch.setattr(quotes, "last_known", look)
    rows = load_orders(Order.objects.filter(pk__in=[order.pk for order in orders]))
    facts = Exits(rows, "paper", policy())

    assert {facts.of(order, VenueAnswer()).price for order in rows} == {D(2000)}
    assert asked == ["ETH"]
