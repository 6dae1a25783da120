"""What is set aside after three failures, what is tried again by itself, and when staff is alerted."""

from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError

from maxxit.core import clock
from maxxit.events.record import advance, subject
from tests import builders as make
from tests.fakes import statement_timeout
from tests.trading.conftest import Trader
from trading import passes, quarantine
from trading.models import Order

QUARANTINED = "order.quarantined"


def fail(order: Order, error: BaseException | None = None) -> None:
    """One step of the order that ends in an error."""
    order.refresh_from_db()
    with quarantine.quarantine_on_error(order):
        raise error or KeyError("a bug")


def is_due(order: Order) -> bool:
    return batches(Order.objects.filter(pk=order.pk)) == [[order.pk]]


def batches(orders: Any, size: int = 1, after: int = 0, **options: Any) -> list[list[int]]:
    waiting = quarantine.due(orders, after)
    found = quarantine.batches(orders, waiting, lambda _: size, **options)
    return [[order.pk for order in batch] for batch in found]


def closing(trader: Trader) -> Order:
    return make.order(trader.deployment, purpose="close", side="sell")


def alerts(order: Order) -> int:
    return make.event_names(of=subject(order)).count(QUARANTINED)


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), OperationalError("gone"), SystemExit()])
def test_what_ends_the_pass_is_charged_to_no_order(trader: Trader, error: BaseException) -> None:
    order = closing(trader)
    with pytest.raises(type(error)):
        fail(order, error)
    order.refresh_from_db()

    assert (order.attempts, order.last_error) == (0, "")


def test_a_statement_beyond_its_time_is_charged_to_its_order(trader: Trader) -> None:
    """An order whose statement always takes too long would end every pass, and no other would have its turn."""
    order = closing(trader)
    fail(order, statement_timeout())
    order.refresh_from_db()

    assert order.attempts == 1
    assert "statement timeout" in order.last_error


def test_an_exit_is_tried_again_after_growing_pauses_of_at_most_five_minutes(trader: Trader) -> None:
    order = closing(trader)
    rests = []
    for number in range(10):
        fail(order)
        order.refresh_from_db()
        assert order.attempts == number + 1
        if order.retry_at is not None:
            rests.append((order.retry_at - clock.now()).total_seconds())
            assert not is_due(order)
            trader.time.to(order.retry_at)
        assert is_due(order)

    assert rests == [10, 20, 40, 80, 160, 300, 300, 300]


def test_an_exit_that_fails_for_months_is_still_tried_again(trader: Trader) -> None:
    order = closing(trader)
    Order.objects.filter(pk=order.pk).update(attempts=quarantine.MAX_ATTEMPTS)
    fail(order)
    order.refresh_from_db()

    assert order.attempts == quarantine.MAX_ATTEMPTS
    assert order.retry_at == clock.now() + timedelta(minutes=5)


def test_an_entry_that_never_left_is_set_aside_for_a_person(trader: Trader) -> None:
    order = trader.planned()
    for _ in range(3):
        fail(order)
    trader.time.move(days=1)

    assert not is_due(order)
    assert alerts(order) == 1
    assert quarantine.redrive([order.pk]) == 1
    assert is_due(order)


def test_an_entry_at_its_venue_may_hold_money_and_is_tried_again(trader: Trader) -> None:
    order = trader.planned()
    advance(order, "sending")
    for _ in range(3):
        fail(order)
    assert not is_due(order)
    trader.time.move(seconds=10)

    assert is_due(order)


def test_staff_is_alerted_at_the_quarantine_and_again_each_hour_while_it_lasts(trader: Trader) -> None:
    order = closing(trader)
    seen: list[int] = []
    for _ in range(3):
        fail(order)
    for _ in range(40):
        seen.append(alerts(order))
        trader.time.move(minutes=5)
        fail(order)

    assert seen[0] == 1
    assert alerts(order) == 4  # 200 minutes: at once, and after one, two and three hours


def test_an_order_whose_step_works_again_is_in_quarantine_no_longer(trader: Trader) -> None:
    order = closing(trader)
    for _ in range(3):
        fail(order)
    order.refresh_from_db()
    with quarantine.quarantine_on_error(order):
        pass
    order.refresh_from_db()

    assert (order.attempts, order.last_error, order.retry_at) == (0, "", None)


def test_a_pass_that_was_cut_goes_on_behind_the_last_order(trader: Trader) -> None:
    made = [closing(trader).pk for _ in range(5)]
    orders = Order.objects.filter(pk__in=made)

    assert batches(orders, after=made[2]) == [[pk] for pk in [*made[3:], *made[:3]]]
    assert batches(orders, size=2) == [[pk] for pk in made]  # one of an account at a time


def test_a_batch_has_orders_of_one_venue_and_one_of_each_account(trader: Trader) -> None:
    deployments = [make.booked_deployment(trader.agent) for _ in range(3)]
    signal, later = trader.signal(), trader.signal()
    first = [make.order(one, by=signal).pk for one in deployments]
    safe = make.order(make.booked_deployment(make.agent(venue="safe")), by=signal).pk
    then = [make.order(one, by=later).pk for one in deployments]

    assert batches(Order.objects.all(), size=2) == [first[:2], [first[2], then[0]], [safe], then[1:]]
    assert batches(Order.objects.all(), size=9) == [first, [safe], then]


def test_no_order_is_taken_once_the_time_is_over(trader: Trader) -> None:
    closing(trader)
    over = passes.TimeBudget(0)

    assert batches(Order.objects.all(), budget=over) == []
    assert over.cut
