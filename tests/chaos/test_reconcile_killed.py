"""A real process that dies at any statement of a reconciliation or an end of day: nothing lost, nothing twice."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from maxxit.core import clock
from maxxit.events.models import Event
from positions.models import DailySummary, DayEnd
from positions.performance import day_ends, points
from tests import builders as make
from tests.builders import RecordedClock
from tests.chaos.killed import at_statement, die
from tests.trading.reconciliation.test_cycle import Broker
from trading import ledger, wiring
from trading.models import Fill, VenueHolding
from trading.reconciliation import cycle
from trading.venues.base import Report, VenueFill

pytestmark = [pytest.mark.share, pytest.mark.django_db(transaction=True), pytest.mark.limit(300)]
ORDERS = 6
MOST_STATEMENTS = 400


def killed_at_each_statement(work: Callable[[], Any]) -> int:
    """Run `work` in processes that die at their 1st, 2nd … statement, until one lives; return how many died."""
    for number in range(1, MOST_STATEMENTS):
        connections.close_all()
        pid = os.fork()
        if not pid:
            try:
                at_statement(number, die, after=bool(number % 2))
                work()
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return number - 1
    raise AssertionError(f"{MOST_STATEMENTS} processes died")


class Exchange(Broker):
    """A broker that filled each order once."""

    def find_many(self, refs: Sequence[str]) -> dict[str, Report | Exception | None]:
        fill = VenueFill("f1", Decimal(1), Decimal(2000), Decimal(2000), Decimal(0), clock.now())
        return {ref: Report("filled", (fill,)) for ref in refs}


def test_a_worker_that_dies_in_a_cycle_books_each_fill_once(
    time: RecordedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange()
    exchange.name = "paper"
    monkeypatch.setattr(wiring.VENUES, "open", lambda adapter, **options: exchange)
    wiring.venue.cache_clear()
    make.price("ETH", "2000")
    agent = make.agent()
    deployment = make.booked_deployment(agent, usdc="100000")
    for number in range(ORDERS):
        by = make.signal(agent)
        make.order(deployment, by=by, state="accepted", venue_ref=f"r{number}", quantity=Decimal(1))

    def work() -> None:
        reader = cycle.Reader(0)
        cycle.run(reader, now=clock.now(), everything=True)
        cycle.report(reader)

    assert killed_at_each_statement(work) >= 5
    work()
    assert Fill.objects.count() == ORDERS
    assert ledger.balances(deployment.pk) == {"ETH": ORDERS, "USDC": 100_000 - 2000 * ORDERS}
    assert ledger.drift() == {}
    assert Event.objects.filter(name="execution.completed").count() == ORDERS
    assert VenueHolding.objects.values("account", "asset").distinct().count() == VenueHolding.objects.count()
    wiring.venue.cache_clear()


def test_a_worker_that_dies_in_the_end_of_day_ends_it_once(time: RecordedClock) -> None:
    make.price("ETH", "2000")
    make.deployment(make.agent())
    points.take_points()
    time.to(datetime(2026, 3, 3, tzinfo=UTC))
    assert killed_at_each_statement(day_ends.end_due) >= 10
    day_ends.end_due()
    assert Event.objects.filter(name="end_of_day").count() == 1
    assert Event.objects.filter(name="PNL_DAILY_SUMMARY").count() == 1
    assert DayEnd.objects.get().ok
    assert DailySummary.objects.filter(deployment=None).count() == 1
