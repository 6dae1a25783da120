"""Real threads on real rows: caps hold, a row moves once, a position is closed once."""

import threading
import time as machine
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import copy_context
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from agents.models import Deployment
from maxxit.core.errors import Rejected, StaleState
from maxxit.events.models import Event
from maxxit.events.record import Transition, advance, advance_each, subject
from positions import book
from positions.exits import sweep
from positions.models import Position
from tests import builders as make
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from trading import execute, ledger
from trading.billing import payments, subscriptions
from trading.entries import planning
from trading.models import Order
from trading.risk import limits
from trading.risk.checks import Verdict
from trading.risk.policy import policy

pytestmark = pytest.mark.django_db(transaction=True)

D = Decimal


def at_once(works: Sequence[Callable[[], Any]], seconds: float = 120) -> list[Any]:
    """Run each in a thread of its own, from one starting line; what each returned, or the exception it raised."""
    line = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            connection.ensure_connection()
            line.wait(timeout=60)
            results[place] = work()
        except BaseException as error:
            results[place] = error
        finally:
            connection.close()

    threads = [
        threading.Thread(target=copy_context().run, args=(run, place, work))
        for place, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=seconds)
    assert not any(thread.is_alive() for thread in threads)
    return results


@pytest.mark.parametrize("reference", ["same", "another"])
def test_payments_of_one_debt_at_once_never_exceed_it(time: RecordedClock, reference: str) -> None:
    deployment = make.deployment(make.agent(), funded=False)
    ledger.book_subscription(deployment.pk, "1", D(20))
    works = [
        partial(
            payments.pay, deployment.pk, D(20), f"{reference} {number * (reference != 'same')}", by="test"
        )
        for number in range(6)
    ]
    results = at_once(works)

    assert results.count(True) == 1, results
    assert all(result in (True, False) or isinstance(result, Rejected) for result in results)
    assert ledger.owed(deployment.pk) == 0


def test_one_reference_for_many_deployments_at_once_is_booked_once(time: RecordedClock) -> None:
    agent = make.agent()
    deployments = [make.deployment(agent, funded=False) for _ in range(6)]
    for deployment in deployments:
        ledger.book_subscription(deployment.pk, "1", D(20))
    results = at_once([partial(payments.pay, one.pk, D(20), "r", by="test") for one in deployments])

    assert results.count(True) == 1, results
    assert sum(ledger.owed(one.pk) for one in deployments) == -100


def test_billing_runs_at_once_charge_each_month_once(time: RecordedClock) -> None:
    agent = make.agent(monthly_fee="subscription monthly_usdc=20")
    deployments = [make.deployment(agent, funded=False) for _ in range(5)]
    Deployment.objects.update(created_at=time.now)
    results = at_once([subscriptions.bill for _ in range(6)])

    assert [result for result in results if not isinstance(result, subscriptions.Billed)] == []
    assert [ledger.owed(one.pk) for one in deployments] == [-20] * 5


@pytest.fixture
def market(time: RecordedClock, no_approval_file: object) -> None:
    make.open_gate()
    make.price("ETH", "2000")


def rules(**platform: Any) -> Any:
    """The limits, wide but for those named."""
    wide = {
        "max_orders_per_minute": 1000,
        "max_open_orders": 1000,
        "max_total_exposure_usd": D(10**9),
        "max_symbol_exposure_usd": D(10**9),
    }
    return policy().model_copy(update={"platform": policy().platform.model_copy(update=wide | platform)})


def race(count: int, limits: Any, venue: FakeVenue) -> Counter[str]:
    """`count` deployments that each want 800 USD of ETH at the same moment."""
    agent = make.agent()
    signal = make.signal(agent)
    orders = [make.order(make.booked_deployment(agent), by=signal) for _ in range(count)]
    verdicts = at_once([partial(make.place, order, venue, limits) for order in orders])
    failed = [verdict for verdict in verdicts if not isinstance(verdict, Verdict)]
    assert failed == []
    return Counter(verdict.reason for verdict in verdicts)


@pytest.mark.parametrize("fills", [True, False], ids=["filled at once", "in flight"])
@pytest.mark.parametrize(
    ("cap", "reason"),
    [
        ("max_total_exposure_usd", "platform_exposure_cap"),
        ("max_symbol_exposure_usd", "platform_symbol_exposure_cap"),
    ],
)
def test_thirty_two_threads_on_one_cap_do_not_overshoot_it(
    market: None, cap: str, reason: str, fills: bool
) -> None:
    verdicts = race(32, rules(**{cap: D(4100)}), FakeVenue(fills=fills))

    assert verdicts == {"": 5, reason: 27}
    assert sum(order.notional_usd or 0 for order in Order.objects.exclude(state="blocked")) == D(4000)


def test_ten_threads_and_two_orders_a_minute_make_two_orders(market: None) -> None:
    # F3: a source checked under one lock and registered under another; ten of ten went through
    venue = FakeVenue()

    assert race(10, rules(max_orders_per_minute=2), venue) == {"": 2, "platform_pace": 8}
    assert venue.effects.total() == 2


def test_of_many_open_orders_no_more_than_the_limit_fly(market: None) -> None:
    assert race(10, rules(max_open_orders=3), FakeVenue(fills=False)) == {
        "": 3,
        "platform_pace": 7,
    }


def test_eight_workers_that_hold_the_same_order_send_it_once(market: None) -> None:
    agent = make.agent()
    order = make.order(make.booked_deployment(agent), by=make.signal(agent))
    twins = [Order.objects.select_related("deployment__agent", "signal").get(pk=order.pk) for _ in range(8)]
    venue = FakeVenue()
    results = at_once([partial(make.place, twin, venue, policy()) for twin in twins])

    assert sum(isinstance(one, Verdict) and one.allowed for one in results) == 1
    assert sum(isinstance(one, StaleState) for one in results) == 7
    assert venue.effects.total() == 1
    assert make.event_names(of=subject(order)).count("order.sending") == 1


def test_eight_fan_outs_at_once_plan_each_order_once(market: None) -> None:
    agent = make.agent()
    for _ in range(5):
        make.booked_deployment(agent)
    for _ in range(4):
        make.signal(agent)
    results = at_once([planning.fan_out] * 8)

    assert sum(results) == Order.objects.count() == 20
    assert Event.objects.filter(name="order.planned").count() == 20


def test_two_threads_on_one_row_make_one_move_and_one_stale_state(market: None) -> None:
    agent = make.agent()
    twins = [make.signal(agent)]
    twins.append(type(twins[0]).objects.get(pk=twins[0].pk))
    results = at_once([partial(advance, row, "skipped", reason="race") for row in twins])

    assert sorted(type(one).__name__ for one in results) == ["NoneType", "StaleState"]
    assert make.event_names(of=subject(twins[0])) == ["signal.skipped"]


def test_racing_monitors_and_a_manual_close_make_one_closing_order_each(market: None) -> None:
    # F13: a source's lock changed no row, so that both racers passed
    deployment = make.booked_deployment(make.agent())
    rows = [make.position(deployment) for _ in range(20)]
    make.price("ETH", "3000")
    ids = [row.pk for row in rows]
    claimed = at_once(
        [sweep.sweep, sweep.sweep, sweep.sweep, lambda: sweep.close(ids), lambda: sweep.close(ids[:7])]
    )

    assert sum(claimed) == 20
    assert Order.objects.filter(purpose="close").count() == 20
    assert set(Position.objects.values_list("state", "exits")) == {("closing", 1)}
    assert Event.objects.filter(name="position.closing").count() == 20


def test_an_exit_is_claimed_while_more_fills_of_its_entry_are_booked(
    market: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing order refers to the entry: the lock on the entry must not hold it up, or both would wait for ever."""
    position = make.position(make.booked_deployment(make.agent()))
    position.entry_order.filled_quantity = D("0.5")
    position.entry_order.save()
    make.price("ETH", "3000")
    read_costs = book.read_costs
    claimed: list[Any] = []

    def sweep_meanwhile(entry_order_ids: Any) -> Any:
        if not claimed:
            claimed.extend(at_once([sweep.sweep], seconds=20))
        return read_costs(entry_order_ids)

    monkeypatch.setattr(book, "read_costs", sweep_meanwhile)

    assert (book.book(), claimed) == ((1, 0), [1])
    position.refresh_from_db()
    assert (position.state, position.quantity) == ("closing", D("0.5"))
    assert Order.objects.get(purpose="close").closes == position.entry_order


# --- locks of batches ----------------------------------------------------------------------------------------------

WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid = ANY(%s)"


def until_waiting(pids: list[int], count: int) -> None:
    """Return when so many of these connections wait for a lock."""
    end = machine.monotonic() + 30
    while machine.monotonic() < end:
        with connection.cursor() as cursor:
            cursor.execute(WAITING, [pids])
            [waiting] = cursor.fetchone()
        if waiting >= count:
            return
        machine.sleep(0.02)
    raise AssertionError(f"fewer than {count} connections wait for a lock")


def behind_one_lock(hold: Callable[[], Any], works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Start `works` one after the other while this connection holds a lock in their middle; return their results.

    Each is started once the one before waits. Works that take their locks in different orders wait for each other then,
    and Postgres ends one of them with an error.
    """
    started = [threading.Event() for _ in works]
    pids: list[int] = []

    def after(place: int, work: Callable[[], Any]) -> Any:
        started[place].wait(timeout=60)
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '200ms'")
            cursor.execute("SELECT pg_backend_pid()")
            pids.extend(cursor.fetchone())
        return work()

    results: list[Any] = []
    steps = [partial(after, place, work) for place, work in enumerate(works)]
    thread = threading.Thread(target=copy_context().run, args=(lambda: results.extend(at_once(steps, 60)),))
    try:
        with transaction.atomic():
            hold()
            thread.start()
            for place, start in enumerate(started, 1):
                start.set()
                until_waiting(pids, place)
    finally:
        for start in started:
            start.set()
        thread.join(timeout=60)
    return results


def failures(results: Sequence[Any]) -> list[str]:
    """The errors among them."""
    return [repr(result) for result in results if isinstance(result, BaseException)]


def by_key(accounts: Sequence[str]) -> list[str]:
    """Accounts in the order of their advisory locks."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) AS name ORDER BY hashtextextended('account:' || name, 0)",
            [list(accounts)],
        )
        return [name for (name,) in cursor.fetchall()]


def closing_orders(accounts: Sequence[str]) -> list[Order]:
    """A closing order of each account."""
    agent = make.agent()
    made = [
        make.order(
            make.booked_deployment(agent, account=account), purpose="close", side="sell", quantity=D("0.1")
        ).pk
        for account in accounts
    ]
    rows = {order.pk: order for order in Order.objects.select_related("deployment__agent", "signal")}
    return [rows[pk] for pk in made]


ACCOUNTS = [f"paper:race{number}" for number in range(5)]


@pytest.mark.parametrize("second", ["close", "open"])
def test_two_batches_never_wait_for_each_other_s_accounts(market: None, second: str) -> None:
    ordered = by_key(ACCOUNTS)
    first, other = closing_orders(ordered), closing_orders(ordered[::-1])
    if second == "open":
        signal = make.signal(first[0].deployment.agent)
        made = [make.order(order.deployment, by=signal).pk for order in first]
        entries = {order.pk: order for order in Order.objects.select_related("deployment__agent", "signal")}
        other = [entries[pk] for pk in made[::-1]]
    results = behind_one_lock(
        lambda: limits.lock([ordered[2]], platform=False),
        [partial(execute.place, part, FakeVenue(), policy()) for part in (first, other)],
    )

    assert failures(results) == []
    assert [len(placed) for placed in results] == [5, 5]
    rows = Order.objects.filter(pk__in=[order.pk for order in (*first, *other)])
    assert not rows.filter(state="planned").exists()
    assert set(rows.values_list("attempts", flat=True)) == {0}


@pytest.mark.parametrize("place", range(3))
def test_a_batch_waits_for_each_of_its_accounts(market: None, place: int) -> None:
    orders = closing_orders(ACCOUNTS[:3])
    planned: list[int] = []

    def hold() -> None:
        limits.lock([ACCOUNTS[place]], platform=False)

    def place_all() -> None:
        planned.append(Order.objects.filter(state="planned").count())
        execute.place(orders, FakeVenue(), policy())

    results = behind_one_lock(hold, [place_all])

    assert failures(results) == []
    assert planned == [3]


def test_two_batches_never_wait_for_each_other_s_rows(market: None) -> None:
    agent = make.agent()
    rows = [make.signal(agent) for _ in range(5)]

    def move(signals: Sequence[Any], new: str) -> int:
        twins = [type(one).objects.get(pk=one.pk) for one in signals]
        return len(advance_each([Transition(twin, new) for twin in twins]))

    results = behind_one_lock(
        lambda: type(rows[0]).objects.select_for_update().get(pk=rows[2].pk),
        [partial(move, rows, "expired"), partial(move, rows[::-1], "executed")],
    )

    assert results == [5, 0]
    assert make.event_names().count("signal.expired") == 5
