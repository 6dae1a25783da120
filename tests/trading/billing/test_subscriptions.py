"""Months of subscriptions: which begin when, each charged once, whatever crashes; one failure stops no other."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from django.db import OperationalError
from hypothesis import given
from hypothesis import strategies as st

from agents.fees import Subscription
from agents.models import Agent, Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.events.record import advance
from tests import builders as make
from tests.builders import T0, RecordedClock
from trading import ledger
from trading.billing import subscriptions
from trading.billing.models import BillingEvent
from trading.billing.subscriptions import add_months, months_begun
from trading.models import LedgerEntry

D = Decimal
RULE = "subscription monthly_usdc=20 trial_days=14"
seconds = st.integers(0, 3_650 * 86_400)
moments = seconds.map(lambda second: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=second))


@given(moments, st.integers(0, 60))
def test_a_month_later_is_the_same_day_or_the_last_of_a_shorter_month(at: datetime, months: int) -> None:
    later = add_months(at, months)

    assert (later.year * 12 + later.month) - (at.year * 12 + at.month) == months
    last = (add_months(later.replace(day=1), 1) - timedelta(days=1)).day
    assert later.day == min(at.day, last)
    assert later.time() == at.time()


@given(moments, st.integers(0, 30), st.lists(st.integers(1, 90), max_size=20))
def test_each_month_is_charged_by_exactly_one_of_many_runs(
    at: datetime, trial: int, waits: list[int]
) -> None:
    """Runs at most 34 days apart miss no month; the months follow each other without gap or overlap."""
    rule = Subscription(model="subscription", monthly_usdc=D(20), trial_days=trial)
    now, found = at, dict[datetime, datetime]()
    for wait in (0, *waits):
        now += timedelta(days=min(wait, 34))
        found |= dict(months_begun(rule, [(at, "active")], now))

    months = sorted(found.items())
    first = at + timedelta(days=trial)
    assert len(months) == sum(add_months(first, number) <= now for number in range(100))
    assert all(end == begin for (_, end), (begin, _) in pairwise(months))
    assert not months or months[0][0] == first


def test_a_month_that_begins_while_paused_or_revoked_is_free() -> None:
    rule = Subscription(model="subscription", monthly_usdc=D(20))
    at = datetime(2026, 1, 10, tzinfo=UTC)
    history = [
        (at, "active"),
        (at + timedelta(days=20), "paused"),
        (at + timedelta(days=40), "active"),
        (at + timedelta(days=70), "revoked"),
    ]
    begun = {
        start.month
        for days in range(0, 200, 7)
        for start, _ in months_begun(rule, history, at + timedelta(days=days))
    }

    assert begun == {1, 3}


@pytest.fixture
def agent(db: None) -> Agent:
    return make.agent(monthly_fee=RULE)


def activated(agent: Agent) -> Deployment:
    made = make.deployment(agent, state="draft", funded=False)
    advance(made, "active")
    return made


def test_the_example_of_the_docs(time: RecordedClock, agent: Agent) -> None:
    time.to(datetime(2026, 3, 10, 8, tzinfo=UTC))
    deployment = activated(agent)
    charged = []
    for day in range(60):
        time.to(datetime(2026, 3, 10, 9, tzinfo=UTC) + timedelta(days=day))
        if subscriptions.bill().charged:
            charged.append(f"{time.now:%d %B}")

    assert charged == ["24 March", "24 April"]
    assert ledger.owed(deployment.pk) == -40


def test_a_longer_trial_charges_no_day_twice(time: RecordedClock, agent: Agent) -> None:
    """The months then count from a later day: the first new one begins after the last that was charged."""
    Agent.objects.update(monthly_fee="subscription monthly_usdc=20")
    time.to(datetime(2026, 3, 10, tzinfo=UTC))
    deployment = activated(agent)
    subscriptions.bill()
    Agent.objects.update(monthly_fee=RULE)
    for _ in range(50):
        time.move(days=1)
        subscriptions.bill()

    rows = list(BillingEvent.objects.order_by("period_start"))
    assert [(f"{row.period_start:%m-%d}", f"{row.period_end:%m-%d}") for row in rows] == [
        ("03-10", "04-10"),
        ("04-24", "05-24"),
    ]
    assert ledger.owed(deployment.pk) == -40


def test_a_deployment_that_cannot_be_billed_stops_no_other(
    time: RecordedClock, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *others = (activated(agent).pk for _ in range(3))
    original = subscriptions._histories

    def broken(ids: Any) -> Any:
        if bad in ids:
            raise OverflowError("date value out of range")
        return original(ids)

    monkeypatch.setattr(subscriptions, "_histories", broken)
    time.move(days=15)

    assert subscriptions.bill() == subscriptions.Billed(due=2, charged=2, failed=0)
    assert sorted(BillingEvent.objects.values_list("deployment_id", flat=True)) == others


def test_a_trial_lies_within_the_calendar() -> None:
    with pytest.raises(ValueError, match="3650"):
        Subscription(model="subscription", monthly_usdc=D(20), trial_days=3_000_000)


def test_many_runs_charge_a_month_once(time: RecordedClock, agent: Agent) -> None:
    deployment = activated(agent)
    time.move(days=15)
    runs = [subscriptions.bill() for _ in range(3)]

    assert [(run.due, run.charged, run.failed) for run in runs] == [(1, 1, 0), (0, 0, 0), (0, 0, 0)]
    event = BillingEvent.objects.get()
    assert (event.state, event.amount, event.journal) == (
        "charged", D(20), f"subscription:{deployment.pk}:{T0 + timedelta(days=14):%Y-%m-%d}",
    )  # fmt: skip
    lines = LedgerEntry.objects.filter(journal=event.journal)
    assert {(line.account, line.amount, line.kind) for line in lines} == {
        (f"deployment:{deployment.pk}:payable", D(-20), "platform_fee"),
        ("fees:platform", D(20), "platform_fee"),
    }
    assert ledger.drift() == {}


def test_a_charge_whose_event_was_lost_after_booking_is_not_booked_again(
    time: RecordedClock, agent: Agent
) -> None:
    deployment = activated(agent)
    time.move(days=15)
    subscriptions.bill()
    BillingEvent.objects.all().delete()
    subscriptions.bill()

    assert BillingEvent.objects.get().state == "charged"
    assert ledger.owed(deployment.pk) == -20


@pytest.mark.parametrize("after", ["events", "journal", "state"])
def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(
    time: RecordedClock, agent: Agent, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    ids = [activated(agent).pk for _ in range(3)]
    time.move(days=15)
    step = {"events": "charge", "journal": "advance", "state": "charge"}[after]
    original, calls = getattr(subscriptions, step), 0

    def dies(*args: Any, **fields: Any) -> Any:
        nonlocal calls
        calls += 1
        if after == "state" and calls < 3:
            return original(*args, **fields)
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(subscriptions, step, dies)
        with pytest.raises(OperationalError):
            subscriptions.bill()
    subscriptions.bill()

    assert [ledger.owed(pk) for pk in ids] == [-20] * 3
    assert set(BillingEvent.objects.values_list("state", flat=True)) == {"charged"}


def test_one_charge_that_fails_alerts_stops_no_other_and_is_tried_again(
    time: RecordedClock, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = activated(agent), activated(agent)
    time.move(days=15)
    book = ledger.book_subscription

    def fails(deployment_id: int, *rest: Any) -> bool:
        if deployment_id == bad.pk:
            raise Rejected("no")
        return book(deployment_id, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "book_subscription", fails)
        run = subscriptions.bill()
        assert (run.due, run.charged, run.failed) == (2, 1, 1)
        again = subscriptions.bill()
        assert (again.charged, again.failed) == (0, 1)
        assert Event.objects.filter(name="billing.failed").count() == 1, "alerted again only after a day"
        time.move(days=1, minutes=1)
        subscriptions.bill()
        assert Event.objects.filter(name="billing.failed").count() == 2

    assert ledger.owed(good.pk) == -20
    event = BillingEvent.objects.get(deployment=bad)
    assert (event.state, event.reason) == ("failed", "no")
    assert subscriptions.bill().charged == 1
    assert ledger.owed(bad.pk) == -20


def test_a_waived_charge_is_never_booked(
    time: RecordedClock, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = activated(agent)
    time.move(days=15)
    with monkeypatch.context() as patch:
        patch.setattr(subscriptions, "charge", lambda pk: False)
        subscriptions.bill()
    event = BillingEvent.objects.get()
    assert event.state == "due"

    waived = subscriptions.waive(event.pk, by="op", reason="a gift")
    subscriptions.bill()

    assert (waived.state, waived.reason) == ("waived", "a gift")
    assert ledger.owed(deployment.pk) == 0
    with pytest.raises(Rejected, match="is WAIVED: only one that is DUE or FAILED"):
        subscriptions.waive(event.pk, by="op", reason="again")
    with pytest.raises(Rejected, match="there is no billing event"):
        subscriptions.waive(event.pk + 1, by="op", reason="again")


def test_drafts_and_agents_without_a_subscription_are_not_charged(time: RecordedClock, agent: Agent) -> None:
    make.deployment(agent, state="draft", funded=False)
    activated(make.agent())
    time.move(days=20)

    assert subscriptions.bill() == subscriptions.Billed(0, 0, 0)


def test_a_safe_is_not_charged(time: RecordedClock, agent: Agent) -> None:
    deployment = activated(agent)
    Deployment.objects.filter(pk=deployment.pk).update(safe_wallet=deployment.account)
    time.move(days=20)

    assert subscriptions.bill().due == 0


def test_a_deployment_that_started_before_the_subscription_is_not_charged(
    time: RecordedClock, db: None
) -> None:
    agent = make.agent()
    started = activated(agent)
    agent.monthly_fee = RULE
    agent.save()
    agent.keep_agreed_fees({"monthly_fee": "", "profit_share": "0.2"})
    later = activated(agent)
    time.move(days=20)
    subscriptions.bill()

    assert [ledger.owed(pk.pk) for pk in (started, later)] == [0, -20]


def test_how_many_deployments_are_looked_up_does_not_add_statements(
    time: RecordedClock, agent: Agent, django_assert_max_num_queries: Any
) -> None:
    for _ in range(20):
        activated(agent)

    with django_assert_max_num_queries(8):  # nothing is due during the trial
        subscriptions.bill()
