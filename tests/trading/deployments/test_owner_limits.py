"""An owner's limits only ever tighten: in the pure check, and over many accounts of a batch."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from agents.models import Deployment
from maxxit.core import clock
from maxxit.core.errors import InvalidInput
from maxxit.events.models import Event
from maxxit.market.instruments import instrument
from tests import builders
from tests.builders import IDLE, RecordedClock, facts, place
from tests.fakes import FakeVenue
from trading.deployments import owner_terms
from trading.deployments.owner_limits import problems_of, set_limits
from trading.models import Order
from trading.reasons import Reason
from trading.risk import checks
from trading.risk.checks import OwnerTerms
from trading.risk.policy import policy

D = Decimal
USD = st.decimals("0.01", "5000", places=2)
LIMIT = st.none() | USD
TERMS = st.builds(
    OwnerTerms,
    active=st.booleans(),
    confirmed=st.booleans(),
    max_daily_usd=LIMIT,
    max_position_usd=LIMIT,
    max_open_positions=st.none() | st.integers(1, 5),
    entered_today_usd=USD,
    other_positions=st.integers(0, 6),
)
FACTS: Any = st.fixed_dictionaries(
    {},
    optional={
        "reduces": st.booleans(),
        "duplicate": st.booleans(),
        "notional_usd": USD,
        "spendable_usd": st.none() | USD,
        "price": st.none() | st.decimals("1900", "2100", places=2),
        "symbol_orders_today": st.integers(0, 4),
        "account": st.none() | st.builds(replace, st.just(IDLE), symbol_exposure_usd=USD),
        "listed": st.booleans(),
    },
)


@given(FACTS, TERMS)
def test_limits_of_an_owner_never_let_through_what_is_blocked_without_them(
    values: dict[str, Any], terms: OwnerTerms
) -> None:
    free, own = facts(**values), facts(**values, owner=terms)
    without, with_limits = checks.check(free, policy()), checks.check(own, policy())
    assert without.allowed or not with_limits.allowed
    assert (
        checks.check_before_venue(free, policy()).allowed
        or not checks.check_before_venue(own, policy()).allowed
    )
    assert not own.reduces or with_limits == without  # an exit is never stopped by them


@given(FACTS, TERMS, st.sampled_from(["max_daily_usd", "max_position_usd"]), USD)
def test_a_tighter_limit_never_lets_through_more(
    values: dict[str, Any], terms: OwnerTerms, name: str, lower: Decimal
) -> None:
    before = getattr(terms, name)
    change: dict[str, Any] = {name: lower if before is None else min(lower, before)}
    tighter = replace(terms, **change)
    loose, tight = (checks.check(facts(**values, owner=one), policy()) for one in (terms, tighter))
    assert loose.allowed or not tight.allowed


@pytest.mark.parametrize(
    ("within", "beyond", "reason", "measured", "limit"),
    [
        ({"max_daily_usd": D(1000), "entered_today_usd": D(200)}, {"entered_today_usd": D("200.01")},
         "owner_daily_limit", "1000.01 USD", "1000.00 USD"),
        ({"max_position_usd": D(800)}, {"max_position_usd": D("799.99")},
         "owner_position_limit", "800.00 USD", "799.99 USD"),
        ({"max_open_positions": 3, "other_positions": 2}, {"other_positions": 3}, "owner_open_positions", "3", "3"),
        ({}, {"active": False}, "deployment_not_active", "", ""),
        ({}, {"confirmed": False}, "awaiting_confirmation", "", ""),
    ],
)  # fmt: skip
def test_each_limit_blocks_just_beyond_it_with_value_and_limit(
    within: dict[str, Any], beyond: dict[str, Any], reason: str, measured: str, limit: str
) -> None:
    terms = OwnerTerms(**within)
    assert checks.check(facts(owner=terms), policy()).allowed
    verdict = checks.check(facts(owner=replace(terms, **beyond)), policy())
    assert (verdict.reason, verdict.measured, verdict.limit) == (reason, measured, limit)


def test_terms_that_were_not_read_block() -> None:
    assert checks.check(facts(owner=None), policy()).reason == Reason.OWNER_UNREADABLE


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_a_limit_of_a_position_is_never_above_the_platforms(value: Decimal) -> None:
    platform = policy().account.max_symbol_exposure_usd
    allowed = value.is_finite() and D("0.01") <= value <= platform
    assert (problems_of({"max_position_usd": value}, policy()) == {}) is allowed


# -- on rows

db = pytest.mark.django_db


@pytest.fixture
def deployment(db: None, time: RecordedClock, no_approval_file: object) -> Deployment:
    builders.open_gate()
    for symbol, usd in (("ETH", "2000"), ("BTC", "40000"), ("SOL", "100")):
        builders.price(symbol, usd)
    agent = builders.agent(owner=User.objects.create_user("alice"), tokens=[])
    return builders.booked_deployment(agent, owner=agent.owner)


def entry(of: Deployment, symbol: str = "ETH", usd: str = "2000") -> Order:
    return builders.order(of, by=builders.signal(of.agent, token=symbol, usd=usd))


def verdict(order: Order) -> str:
    order.refresh_from_db()
    return place(order, FakeVenue(), policy()).reason


def test_the_entries_of_a_day_are_counted_and_the_next_day_begins_anew(
    deployment: Deployment, time: RecordedClock
) -> None:
    set_limits(deployment, {"max_daily_usd": D(900)}, by="alice")
    assert verdict(entry(deployment)) == ""  # 800 USD
    [order] = Order.objects.all()
    assert order.notional_usd == 800
    blocked = entry(deployment, "BTC", "40000")
    assert verdict(blocked) == "owner_daily_limit"
    blocked.refresh_from_db()
    assert blocked.verdict["limit"] == "900.00 USD"
    time.move(days=1)
    builders.price("BTC", "40000")
    builders.price("ETH", "2000")
    builders.open_gate()
    assert verdict(entry(deployment, "BTC", "40000")) == ""


def test_an_entry_that_never_traded_does_not_count(deployment: Deployment) -> None:
    set_limits(deployment, {"max_daily_usd": D(900)}, by="alice")
    assert verdict(entry(deployment)) == ""
    Order.objects.update(**{"state": "rejected", "filled_quantity": 0})
    assert verdict(entry(deployment, "BTC", "40000")) == ""


def test_another_deployment_is_not_counted(deployment: Deployment) -> None:
    other = builders.booked_deployment(deployment.agent)
    set_limits(deployment, {"max_daily_usd": D(900), "max_open_positions": 1}, by="alice")
    assert verdict(entry(other)) == ""
    assert verdict(entry(deployment)) == ""


def test_tokens_that_the_account_holds_are_its_positions(deployment: Deployment) -> None:
    set_limits(deployment, {"max_open_positions": 1}, by="alice")
    assert verdict(entry(deployment)) == ""
    assert verdict(entry(deployment, "BTC", "40000")) == "owner_open_positions"


def test_less_than_a_lot_is_no_held_token(deployment: Deployment) -> None:
    """What is left of a coin after its position was sold cannot be sold, so it is no position."""
    set_limits(deployment, {"max_open_positions": 1}, by="alice")
    lot = instrument("BTC").lot
    terms = owner_terms.read([deployment.pk], clock.now())
    order = entry(deployment)
    for held, count in ((lot / 2, 0), (-lot / 2, 0), (lot, 1), (-lot, 1)):
        of_order = terms.of(order, {"BTC": held, "ETH": D(5)})
        assert of_order is not None
        assert of_order.other_positions == count


def test_an_entry_of_a_deployment_that_was_paused_meanwhile_is_blocked(deployment: Deployment) -> None:
    order = entry(deployment)
    Deployment.objects.filter(pk=deployment.pk).update(**{"state": "paused"})
    assert verdict(order) == "deployment_not_active"


def test_the_terms_of_many_deployments_are_one_statement(
    deployment: Deployment, time: RecordedClock, django_assert_num_queries: Any
) -> None:
    others = [builders.booked_deployment(deployment.agent) for _ in range(5)]
    for one in others:
        set_limits(one, {"max_daily_usd": D(100)}, by="x")
    with django_assert_num_queries(1):
        found = owner_terms.read([deployment.pk, *(one.pk for one in others)], time.now)
    assert {one.max_daily_usd for pk, one in found.by_deployment.items() if pk != deployment.pk} == {100}


def test_who_set_a_limit_and_when_is_kept(deployment: Deployment, time: RecordedClock) -> None:
    set_limits(deployment, {"max_daily_usd": D(100), "max_open_positions": 2}, by="alice by key mxk_1")
    time.move(minutes=1)
    set_limits(deployment, {"max_daily_usd": None}, by="alice")
    assert set_limits(deployment, {"max_daily_usd": None}, by="bob") == []
    row = Deployment.objects.get()
    assert (row.max_daily_usd, row.max_open_positions) == (None, 2)
    assert (row.limits_changed_by, row.limits_changed_at) == ("alice", time.now)
    events = [event.data for event in Event.objects.filter(name="deployment.limited").order_by("pk")]
    assert events == [
        {
            "by": "alice by key mxk_1",
            "changes": {"max_daily_usd": [None, "100"], "max_open_positions": [None, 2]},
        },
        {"by": "alice", "changes": {"max_daily_usd": ["100", None]}},
    ]


def test_a_limit_that_blocks_every_order_is_accepted_and_says_so(deployment: Deployment) -> None:
    [note] = set_limits(deployment, {"max_position_usd": D(5)}, by="alice")
    assert note == "your limit of 5 USD a position is below the minimum order of 10: raise it"


def test_wrong_limits_are_each_named(deployment: Deployment) -> None:
    wrong = {"max_daily_usd": D(0), "max_position_usd": D(10**6), "max_open_positions": 0, "max_fun": 1}
    with pytest.raises(InvalidInput) as refused:
        set_limits(deployment, wrong, by="alice")
    assert set(refused.value.problems) == set(wrong)
    assert "above the platform's 10000 USD of one token" in refused.value.problems["max_position_usd"]
