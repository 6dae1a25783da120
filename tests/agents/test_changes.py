"""Agents are created and changed field by field; who changed what is recorded."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents import changes as module
from agents.changes import AgentChanges, create_agent, edit_agent
from agents.describe import agent_data
from agents.evidence import UNMEASURED
from agents.models import Agent
from agents.policy import CustomerPolicy, policy
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.models import Event
from tests import builders

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


def create(owner: User, **fields: Any) -> Agent:
    return create_agent(owner, AgentChanges(**{"name": "Majors"} | fields), by="alice")


def problems(owner: User, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as refused:
        create(owner, **fields)
    return refused.value.problems


def test_a_new_agent_is_a_draft_of_its_owner_with_the_defaults(alice: User) -> None:
    agent = Agent.objects.get(pk=create(alice, tokens=["eth", "BTC", "ETH"]).pk)
    assert (agent.owner, agent.state, agent.venue, agent.tokens) == (alice, "draft", "paper", ["ETH", "BTC"])
    assert Event.objects.get(name="agent.created").data == {"by": "alice"}


def test_every_wrong_field_is_named_with_what_is_allowed(alice: User) -> None:
    wrong = problems(
        alice, name=" ", venue="nowhere", tokens=["NOTHING"], sizing_preset="bold", exit_preset="x",
        min_confidence="50", weights={"tweet": 101},
    )  # fmt: skip
    assert set(wrong) == {
        "name", "venue", "tokens", "sizing_preset", "exit_preset", "min_confidence", "weights",
    }  # fmt: skip
    assert "paper" in wrong["venue"]
    assert "conservative, moderate, aggressive" in wrong["sizing_preset"]
    assert not Agent.objects.exists()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0.01", "1.01", "much", "1e999999"])
def test_a_least_confidence_is_a_fraction(alice: User, value: str) -> None:
    assert "fraction" in problems(alice, min_confidence=value)["min_confidence"]


@pytest.mark.parametrize("value", ["NaN", "-1", "100.01", "0.001", "much", "1e999999"])
def test_a_volatility_target_is_a_percentage_and_0_is_none(alice: User, value: str) -> None:
    assert (
        "percentage from 0.01 to 100" in problems(alice, volatility_target_pct=value)["volatility_target_pct"]
    )


def test_a_volatility_target_is_set_and_taken_away(alice: User) -> None:
    agent = create(alice, volatility_target_pct="3.5")
    assert agent_data(agent)["volatility_target_pct"] == "3.5"
    edit_agent(agent, AgentChanges(volatility_target_pct="0"), by="alice")
    assert agent_data(Agent.objects.get(pk=agent.pk))["volatility_target_pct"] is None


def test_a_token_that_the_venue_does_not_list_is_refused(alice: User) -> None:
    assert "does not list XRP" in problems(alice, venue="safe", tokens=["XRP"])["tokens"]


def test_weights_that_are_all_zero_would_make_no_signal(alice: User) -> None:
    assert "no signal" in problems(alice, weights={})["weights"]


def test_no_two_agents_of_one_owner_share_a_name_and_those_of_two_may(alice: User) -> None:
    bob = User.objects.create_user("bob")
    first = create(alice)
    assert create(bob, name="  Majors ").name == first.name == "Majors"
    assert "the owner has another agent named" in problems(alice, name="Majors")["name"]
    second = create(alice, name="Second")
    with pytest.raises(InvalidInput, match="the owner has another agent named"):
        edit_agent(second, AgentChanges(name="Majors"), by="alice")


def test_the_name_of_an_agent_that_was_activated_is_fixed(alice: User) -> None:
    agent = create(alice)
    edit_agent(agent, AgentChanges(name="Renamed"), by="alice")
    Agent.objects.filter(pk=agent.pk).update(**{"state": "paused"})
    with pytest.raises(InvalidInput, match="fixed once the agent was activated"):
        edit_agent(agent, AgentChanges(name="Again"), by="alice")
    edit_agent(agent, AgentChanges(name="Renamed"), by="alice")


def test_an_owner_has_so_many_agents_at_most(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    few = CustomerPolicy.model_validate(policy().model_dump() | {"max_agents": 2})
    monkeypatch.setattr(module, "policy", lambda: few)
    create(alice, name="1")
    create(alice, name="2")
    with pytest.raises(Rejected, match="has 2 agents, and 2 are allowed"):
        create(alice, name="3")


def test_a_change_is_recorded_with_old_and_new_and_a_repetition_is_none(alice: User) -> None:
    agent = create(alice)
    wish = AgentChanges(min_confidence="0.7", sizing_preset="aggressive")
    assert set(edit_agent(agent, wish, by="alice by key mxk_1")) == {"min_confidence", "sizing_preset"}
    assert edit_agent(agent, wish, by="alice") == {}
    [event] = Event.objects.filter(name="agent.changed")
    assert event.data["by"] == "alice by key mxk_1"
    assert event.data["changes"] == {
        "min_confidence": ["0.5", "0.7"],
        "sizing_preset": ["moderate", "aggressive"],
    }
    assert Agent.objects.get(pk=agent.pk).min_confidence == agent.min_confidence == Decimal("0.7")


def test_the_venue_is_fixed_once_a_deployment_has_started(alice: User) -> None:
    agent = create(alice)
    deployment = builders.deployment(agent, state="draft", funded=False)
    edit_agent(agent, AgentChanges(venue="safe"), by="alice")
    edit_agent(agent, AgentChanges(venue="paper"), by="alice")
    type(deployment).objects.filter(pk=deployment.pk).update(**{"state": "active"})
    with pytest.raises(InvalidInput, match="trades at paper already"):
        edit_agent(agent, AgentChanges(venue="safe"), by="alice")


def test_preferences_hold_for_an_agent_that_is_older_than_a_piece_of_evidence(alice: User) -> None:
    agent = create(alice, preferences={"social_sentiment_weight": 90})
    agent.weights = {name: weight for name, weight in agent.weights.items() if name not in UNMEASURED}

    assert agent_data(agent)["preferences"] == agent.preferences


def test_preferences_set_the_weights_until_weights_are_given(alice: User) -> None:
    agent = create(alice, preferences={"social_sentiment_weight": 90, "risk_tolerance": 10})
    assert (agent.weights["tweet"], agent.sizing_preset) == (90, "conservative")
    shown = agent_data(agent)["preferences"]
    assert shown["social_sentiment_weight"] == 90
    assert shown["trade_frequency"] == 50
    edit_agent(agent, AgentChanges(sizing_preset="moderate"), by="alice")
    assert agent_data(agent)["preferences"] is None
    edit_agent(agent, AgentChanges(weights={"tweet": 100}), by="alice")
    assert agent.preferences == {}
    assert (
        "either preferences or weights"
        in problems(alice, preferences={}, weights={"tweet": 1})["preferences"]
    )
