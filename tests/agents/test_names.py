"""Agents of one name: found by id or owner, and told apart in the decisions that events record."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from agents.decisions import MADE_BY, Deciders
from agents.describe import agent_named, names_of
from agents.models import Agent
from maxxit.core.errors import Rejected
from maxxit.events.models import Event
from maxxit.events.record import record
from tests import builders as make
from tests.builders import RecordedClock

pytestmark = pytest.mark.django_db


@pytest.fixture
def majors(db: None) -> list[Agent]:
    """Three agents of one name: of alice, of bob and of the platform."""
    owners = [User.objects.create_user(name) for name in ("alice", "bob")]
    return [make.agent(name="Majors", owner=owner) for owner in (*owners, None)]


def test_an_ambiguous_name_is_refused_with_every_way_to_be_clear(majors: list[Agent]) -> None:
    alice, bob, platform = majors
    with pytest.raises(Rejected) as refused:
        agent_named("Majors")
    assert str(refused.value) == (
        f"3 agents are named 'Majors': give the id, or owner/name: {alice.pk} (alice/Majors), {bob.pk} (bob/Majors), "
        f"{platform.pk} (/Majors)"
    )
    assert agent_named(str(bob.pk)) == bob
    assert agent_named("alice/Majors") == alice
    assert agent_named("/majors") == platform
    with pytest.raises(Rejected, match="no agent 'carol/Majors'"):
        agent_named("carol/Majors")


def test_a_name_with_a_slash_or_of_digits_is_found_too(db: None) -> None:
    slashed, digits = make.agent(name="A/B"), make.agent(name="2026")
    assert agent_named("A/B") == slashed
    assert agent_named("2026") == digits


def test_the_platform_has_one_agent_of_a_name(majors: list[Agent]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Agent.objects.create(name="Majors", venue="paper")


def test_documents_name_an_agent_by_id_or_owner(majors: list[Agent]) -> None:
    alice, _, platform = majors
    assert names_of(alice) == [str(alice.pk), "alice/Majors"]
    assert names_of(platform) == [str(platform.pk), "/Majors", "Majors"]


def test_decisions_are_told_apart_by_id_and_older_ones_by_the_agent_that_was_there(
    majors: list[Agent], time: RecordedClock
) -> None:
    """In Python and in SQL the same."""
    alice, bob, _ = majors
    Agent.objects.filter(pk=alice.pk).update(created_at=time.now - timedelta(days=2))
    Agent.objects.filter(pk=bob.pk).update(created_at=time.now + timedelta(days=2))
    post = make.post(make.account())
    data: list[dict[str, Any]] = [
        {"agent": "Majors", "agent_id": alice.pk}, {"agent": "Majors", "agent_id": bob.pk}, {"agent": "Majors"},
        {"agent": "Other"}, {},
    ]  # fmt: skip
    for values in data:
        record("signal.declined", post, **values)
    for agent, own in ((alice, [0, 2]), (bob, [1])):
        deciders = Deciders.of([Agent.objects.get(pk=agent.pk)])
        events = list(Event.objects.filter(name="signal.declined").order_by("pk"))
        assert [place for place, row in enumerate(events) if deciders.made(row.data, row.at)] == own
        assert [place for place, row in enumerate(events) if deciders.concern(row.data, row.at)] == [*own, 4]
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM events e WHERE name = 'signal.declined' AND {MADE_BY} ORDER BY id",
                deciders.params,
            )
            assert [pk for (pk,) in cursor.fetchall()] == [events[place].pk for place in own]
