"""With confirmation each entry waits for its owner's confirmation, until its signal expires."""

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.models import Deployment
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from signals_app.models import Signal
from tests import builders
from tests.builders import RecordedClock
from tests.fakes import FakeVenue
from tests.trading.test_race import at_once
from trading import execute, tasks
from trading.deployments import confirmation
from trading.deployments.confirmation import ask, cannot_answer, confirm, decline, waiting, waits
from trading.entries import crowd, planning
from trading.models import Order
from trading.reasons import Reason
from trading.risk.policy import policy
from trading.states import OrderState

pytestmark = pytest.mark.django_db


@pytest.fixture
def asking(time: RecordedClock, no_approval_file: object) -> Deployment:
    return make()


def make() -> Deployment:
    builders.open_gate()
    builders.price("ETH", "2000")
    agent = builders.agent(owner=User.objects.create_user("alice"))
    return builders.deployment(agent, owner=agent.owner, confirm_entries=True)


def planned(of: Deployment) -> Order:
    builders.signal(of.agent)
    assert planning.fan_out() == of.agent.deployments.count()
    return Order.objects.get(deployment=of)


def place() -> execute.PlacementCounts:
    limits = policy()
    return execute.place_due_orders(
        Order.objects.filter(purpose="open"), limits, shares=crowd.read_shares(limits)
    )


def state(order: Order) -> tuple[str, str]:
    order.refresh_from_db()
    return order.state, order.reason


def test_an_entry_waits_and_is_placed_after_the_yes_through_every_check(asking: Deployment) -> None:
    order = planned(asking)
    assert state(order) == ("planned", "awaiting_confirmation")
    assert place().due == 0
    assert planning.finish_signals() == {"executed": 0}
    assert list(waiting(Order.objects.all())) == [order]
    assert confirm(order, by="alice") is True
    assert confirm(order, by="alice") is False
    assert place().sent == 1
    assert state(order) == ("filled", "")
    events = Event.objects.filter(subject=f"trading.order/{order.pk}").order_by("pk")
    told = {event.name: event.data for event in events}
    assert told["order.awaiting_confirmation"] == {"owner_id": asking.owner_id}
    assert told["order.confirmed"] == {"by": "alice"}


def test_nothing_of_a_revoked_deployment_waits_for_a_yes(asking: Deployment) -> None:
    planned(asking)
    Deployment.objects.filter(pk=asking.pk).update(state="revoked")
    assert not waiting(Order.objects.all()).exists()


def test_a_yes_changes_no_check(asking: Deployment) -> None:
    order = planned(asking)
    confirm(order, by="alice")
    builders.price("ETH", "2500")
    place()
    assert state(order) == ("blocked", "price_band")


def test_a_no_blocks_it_for_good_and_its_signal_is_skipped(asking: Deployment) -> None:
    order = planned(asking)
    assert decline(order, by="alice") is True
    assert decline(order, by="alice") is False
    assert state(order) == ("blocked", "declined")
    assert Event.objects.get(name="execution.blocked").data["by"] == "alice"
    planning.finish_signals()
    assert (Signal.objects.get().state, Signal.objects.get().reason) == ("skipped", "declined")
    with pytest.raises(Rejected, match=r"is blocked \(declined\) and waits for no confirmation"):
        confirm(order, by="alice")


def test_without_an_answer_it_expires_with_its_signal(asking: Deployment, time: RecordedClock) -> None:
    order = planned(asking)
    time.move(hours=6)
    with pytest.raises(Rejected, match="expired with its signal at"):
        confirm(order, by="alice")
    assert planning.expire_signals() == 1
    assert state(order) == ("expired", "not_confirmed")


def test_only_deployments_that_ask_wait(asking: Deployment) -> None:
    other = builders.deployment(asking.agent)
    order = planned(asking)
    assert place().sent == 1
    assert state(order)[0] == "planned"
    assert Order.objects.get(deployment=other).state == "filled"


def test_waiting_entries_wake_nobody_and_are_no_work(asking: Deployment) -> None:
    planned(asking)
    assert tasks.wake_left_behind() is False
    assert tasks.entry_pass().detail["sent"] == 0


def test_switching_it_on_stops_what_is_planned_and_off_keeps_what_was_asked(asking: Deployment) -> None:
    ask(asking, False, by="alice")
    order = planned(asking)
    assert state(order) == ("planned", "")
    assert ask(asking, True, by="alice") == 1
    assert state(order) == ("planned", "awaiting_confirmation")
    assert ask(asking, False, by="alice") == 1
    assert place().due == 0
    assert state(order) == ("planned", "awaiting_confirmation")
    changes = [
        event.data["changes"] for event in Event.objects.filter(name="deployment.changed").order_by("pk")
    ]
    assert changes == [{"confirm_entries": [old, not old]} for old in (True, False, True)]


def test_an_entry_that_was_loaded_before_the_switch_still_waits(asking: Deployment) -> None:
    """The batch has the order in memory from before: what counts is read under the lock."""
    Deployment.objects.update(confirm_entries=False)
    order = planned(asking)
    Deployment.objects.update(confirm_entries=True)
    venue = FakeVenue()
    [placed] = execute.place([order], venue, policy())
    assert placed.verdict.reason == Reason.AWAITING_CONFIRMATION
    assert state(order) == ("planned", "awaiting_confirmation")
    assert Event.objects.filter(name="order.awaiting_confirmation").count() == 1
    assert place().due == 0


@pytest.mark.parametrize("old", list(OrderState))
@pytest.mark.parametrize("purpose", ["open", "close"])
@pytest.mark.parametrize("reason", ["", "platform_pace", "awaiting_confirmation"])
def test_only_a_planned_entry_that_was_asked_for_waits(old: OrderState, purpose: str, reason: str) -> None:
    asked = (old, purpose, reason) == ("planned", "open", "awaiting_confirmation")
    assert waits(old, purpose, reason) is asked
    assert (cannot_answer(old, purpose, reason, None, builders.T0) == "") is asked
    assert cannot_answer(old, purpose, reason, builders.T0, builders.T0)


@pytest.mark.django_db(transaction=True)
def test_of_racing_answers_one_counts(time: RecordedClock, no_approval_file: object) -> None:
    order = planned(make())
    works: list[Any] = [partial(step, order, by="alice") for step in (confirm, decline) * 4]
    results = at_once([partial(_outcome, work) for work in works])
    assert results.count(True) == 1
    assert state(order) in {("planned", ""), ("blocked", "declined")}
    assert Event.objects.filter(name__in=("order.confirmed", "execution.blocked")).count() == 1
    assert confirmation.waiting(Order.objects.all()).count() == 0


def _outcome(work: Any) -> Any:
    try:
        return work()
    except Rejected as error:
        return error.code
