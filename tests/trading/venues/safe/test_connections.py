"""However many threads send orders of Safes or look for them, a process opens few database connections."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection

from maxxit.core.errors import Retryable
from tests.chain.sending.safe_trader import renew_helpers
from tests.trading.test_race import at_once
from trading.venues.base import Prepared
from trading.venues.safe import venue as safe
from trading.venues.safe.venue import SafeVenue

pytestmark = pytest.mark.django_db(transaction=True)
LANES, EACH = 6, 20


class CountingVenue(SafeVenue):
    """Each order takes a while in the database and notes how many connections are open."""

    def __init__(self) -> None:
        super().__init__(chain="local", slippage_bps=50)
        self.open: list[int] = []
        self.threads: set[int] = set()

    def find(self, ref: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.02)")
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            [count] = cursor.fetchone()
        self.open.append(count)
        self.threads.add(threading.get_ident())

    def send(self, prepared: Prepared) -> None:
        self.find(prepared.ref)
        raise Retryable(prepared.ref)


def send(venue: SafeVenue, refs: list[str]) -> Any:
    return venue.send_many([Prepared(ref, {}) for ref in refs])


@pytest.fixture
def venue() -> Iterator[CountingVenue]:
    yield CountingVenue()
    renew_helpers()


@pytest.mark.parametrize("ask", [SafeVenue.find_many, send])
def test_lanes_and_helpers_are_all_the_connections(venue: CountingVenue, ask: Callable[..., Any]) -> None:
    orders = [[f"{lane}/{number}" for number in range(EACH)] for lane in range(LANES)]
    answers = at_once([partial(ask, venue, refs) for refs in orders])
    assert [list(of_lane) for of_lane in answers] == orders
    assert len(venue.open) == LANES * EACH
    assert max(venue.open) <= LANES + safe.HELPERS.size + 1, "and that of this test"


def test_one_lane_has_the_helpers_for_itself(venue: CountingVenue) -> None:
    venue.find_many([str(number) for number in range(EACH)])
    assert len(venue.threads) == 1 + safe.HELPERS.size
