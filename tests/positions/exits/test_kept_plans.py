"""A plan that Postgres keeps from a time of few positions is good for many: the sweep never compares each with each."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from psycopg.types.json import Jsonb

from agents.models import Deployment
from maxxit.core import clock
from positions.exits import sweep
from positions.models import Position
from tests import builders
from tests.plans import kept, touched
from trading import gate

MANY = 300


@pytest.fixture
def deployment(db: None) -> Deployment:
    return builders.booked_deployment(builders.agent())


def trail(deployment: Deployment, count: int, symbol: str) -> None:
    """Open long positions whose trailing stops the price of 200 USD raises."""
    for _ in range(count):
        builders.position(deployment, symbol=symbol, entry="100", trailing_activation=100, trailing_pct=1)
    builders.price(symbol, "200")


def moment() -> dict[str, Any]:
    """The parameters of the sweep over all symbols, for quotes of now and of the next minutes."""
    now = clock.now()
    fresh = {"oldest": now - timedelta(minutes=1), "newest": now + timedelta(minutes=5)}
    return gate.query_params() | fresh | {"seen": None}


@pytest.mark.parametrize("analyzed", [False, True])
def test_trailing_stops_are_raised_in_one_look_at_each(deployment: Deployment, analyzed: bool) -> None:
    trail(deployment, 7, "FEW")
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE positions, quotes")
    with kept(sweep.SEARCH, moment()) as execution:
        trail(deployment, MANY, "ETH")
        read = touched(execution)
    assert read < 20 * MANY
    raised = Position.objects.filter(symbol="ETH", trailing_stop=Decimal(198))
    assert raised.count() == MANY


def test_exits_are_found_in_one_look_at_each(deployment: Deployment) -> None:
    builders.open_gate()
    trail(deployment, 7, "FEW")
    with kept(sweep.SEARCH, moment()) as execution:
        trail(deployment, MANY, "ETH")
        builders.price("ETH", "1")
        read = touched(execution)
    assert len(sweep.find_hits().hits) == 7 + MANY
    assert read < 20 * MANY


def test_time_exits_are_found_without_the_positions_of_each_symbol(deployment: Deployment) -> None:
    builders.open_gate()
    for number in range(MANY):
        tomorrow = clock.now() + timedelta(days=1)
        builders.position(deployment, symbol=f"TOKEN{number % 5}", entry="100", time_exit_at=tomorrow)
    for number in range(5):
        builders.price(f"TOKEN{number}", "100")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE positions, quotes")
    with kept(sweep.SEARCH, moment()) as execution:
        assert touched(execution) < MANY / 5


@pytest.mark.parametrize("analyzed", [False, True])
def test_claims_look_up_each_hit_once(deployment: Deployment, analyzed: bool) -> None:
    builders.open_gate()
    hits = [builders.position(deployment, symbol="ETH").pk for _ in range(MANY)]
    if analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE positions, orders")
    claim = {"ids": hits, "reasons": Jsonb(dict.fromkeys(hits, "manual")), "at_once": True}
    with kept(sweep.CLAIM, moment() | claim) as execution:
        read = touched(execution)
    assert read < 40 * MANY
    assert Position.objects.filter(pk__in=hits, state="closing").count() == MANY
