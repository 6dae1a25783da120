"""One way to change a state, and the event that goes with it."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from agents.models import Agent
from maxxit.core import correlation
from maxxit.core.errors import IllegalMove, StaleState
from maxxit.events.models import Event
from maxxit.events.record import advance, advance_all, record, subject
from signals_app.models import Signal
from tests import builders as make
from tests.builders import T0, RecordedClock


@pytest.fixture
def agent(db: None, time: RecordedClock) -> Agent:
    return make.agent()


def test_a_move_changes_state_and_fields_and_leaves_one_event(agent: Agent) -> None:
    signal = make.signal(agent)
    advance(signal, "skipped", why="test", reason="test", data={"measured": "1"})
    event = Event.objects.get(subject=subject(signal))

    assert (signal.state, signal.reason) == ("skipped", "test")
    assert Signal.objects.filter(pk=signal.pk, state="skipped", reason="test").exists()
    assert (event.name, event.at, event.correlation_id) == ("signal.skipped", T0, signal.correlation_id)
    assert event.data == {"old": "pending", "why": "test", "measured": "1"}


def test_a_move_that_another_worker_made_first_is_stale_and_leaves_nothing(agent: Agent) -> None:
    signal = make.signal(agent)
    twin = Signal.objects.get(pk=signal.pk)
    advance(signal, "executed")
    before = make.last_event()
    with pytest.raises(StaleState, match="no longer pending"):
        advance(twin, "skipped")

    assert make.event_names(after=before) == []
    assert Signal.objects.get(pk=signal.pk).state == "executed"


def test_a_move_that_the_table_has_not_is_a_bug_and_changes_nothing(agent: Agent) -> None:
    signal = make.signal(agent, state="skipped")
    with pytest.raises(IllegalMove):
        advance(signal, "executed")

    assert Signal.objects.get(pk=signal.pk).state == "skipped"
    assert not Event.objects.filter(subject=subject(signal)).exists()


def test_of_many_rows_those_that_still_stand_are_moved_with_one_event_each(agent: Agent) -> None:
    rows = [make.signal(agent) for _ in range(5)]
    advance(rows[2], "executed")
    moved = advance_all(Signal, [row.pk for row in rows], "pending", "expired", why="late")

    assert moved == [row.pk for row in rows if row != rows[2]]
    assert Event.objects.filter(name="signal.expired").count() == 4


def test_many_rows_move_with_as_many_statements_as_one(agent: Agent, django_assert_num_queries: Any) -> None:
    one, many = [make.signal(agent).pk], [make.signal(agent).pk for _ in range(200)]
    for ids in (one, many):
        with django_assert_num_queries(3):  # lock, update, events
            advance_all(Signal, ids, "pending", "expired")


def test_a_transaction_that_fails_takes_state_and_event_back_together(agent: Agent) -> None:
    signal = make.signal(agent)
    before = make.last_event()

    @transaction.atomic
    def fails() -> None:
        advance(signal, "executed")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert Signal.objects.get(pk=signal.pk).state == "pending"
    assert make.event_names(after=before) == []


def test_a_row_without_a_correlation_id_takes_the_one_in_force(agent: Agent) -> None:
    derived = correlation.derive_id("test")
    with correlation.under(derived):
        assert record("agent.looked_at", agent).correlation_id == derived
    assert record("agent.looked_at", agent).correlation_id is None


def test_a_move_is_a_change_of_the_row(agent: Agent, time: RecordedClock) -> None:
    order = make.order(make.deployment(agent))
    time.to(T0 + timedelta(minutes=7))
    advance(order, "blocked", why="cooldown", reason="cooldown")
    order.refresh_from_db()

    assert order.updated_at == T0 + timedelta(minutes=7)
