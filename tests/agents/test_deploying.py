"""Deployments begin as drafts at an account of their own; states move along the table, for everyone alike."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from agents import deploying
from agents.deploying import create_deployment, set_capital, starting_balance
from agents.lifecycle import change_state, change_states
from agents.models import Agent, Deployment
from agents.policy import CustomerPolicy, policy
from agents.states import DEPLOYMENT, DeploymentState
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.models import Event
from maxxit.market.venues import venue_policy
from tests import builders

db = pytest.mark.django_db


@pytest.fixture
def agent(db: None) -> Agent:
    return builders.agent(owner=User.objects.create_user("alice"))


def create(agent: Agent, **fields: Any) -> Deployment:
    assert agent.owner is not None
    return create_deployment(agent, agent.owner, by="alice", **fields)


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_a_starting_balance_is_positive_within_the_limit_and_has_six_decimals(amount: Decimal) -> None:
    allowed = (
        amount.is_finite()
        and 0 < amount <= policy().max_paper_usdc
        and amount == amount.quantize(Decimal("0.000001"))
    )
    if allowed:
        assert starting_balance(amount) == amount
    else:
        with pytest.raises(InvalidInput, match=r"^capital: "):
            starting_balance(amount)


def test_each_draft_has_an_account_of_its_own(agent: Agent) -> None:
    one, two = create(agent, capital=Decimal(500)), create(agent)
    assert (one.state, one.owner, one.starting_balance) == ("draft", agent.owner, 500)
    assert two.starting_balance == 10_000
    assert one.account != two.account
    assert one.account.startswith("paper:")
    assert Event.objects.filter(name="deployment.created").count() == 2


def test_only_paper_accounts_start_with_play_money(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    Agent.objects.filter(pk=agent.pk).update(venue="safe")
    agent.refresh_from_db()
    assert create(agent).starting_balance == 0
    planned = create(agent, capital=Decimal(5))  # what its owner means to keep in the Safe
    assert (planned.starting_balance, planned.safe_capital) == (0, 5)
    broker = venue_policy("safe").model_copy(update={"adapter": "broker"})
    monkeypatch.setattr(deploying, "venue_policy", lambda name: broker)
    with pytest.raises(InvalidInput, match="deposit USDC at safe"):
        create(agent, capital=Decimal(5))


def test_a_customer_has_so_many_deployments_and_revoked_ones_do_not_count(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = CustomerPolicy.model_validate(policy().model_dump() | {"max_deployments": 1})
    monkeypatch.setattr(deploying, "policy", lambda: few)
    first = create(agent)
    with pytest.raises(Rejected, match="has 1 deployments, and 1 are allowed"):
        create(agent)
    change_state(first, DeploymentState.REVOKED, by="alice")
    create(agent)


def test_the_starting_balance_is_fixed_once_it_has_started(agent: Agent) -> None:
    deployment = create(agent)
    set_capital(deployment, Decimal(750), by="alice")
    change_state(deployment, DeploymentState.ACTIVE, by="alice")
    with pytest.raises(Rejected, match="its starting balance is fixed"):
        set_capital(deployment, Decimal(800), by="alice")
    assert Deployment.objects.get().starting_balance == 750


@pytest.mark.parametrize("old", list(DeploymentState))
@pytest.mark.parametrize("new", list(DeploymentState))
def test_a_state_moves_as_the_table_says_and_the_refusal_names_what_is_possible(
    agent: Agent, old: DeploymentState, new: DeploymentState
) -> None:
    row = builders.deployment(agent, funded=False, state=old)
    if new == old:
        assert change_state(row, new, by="x") is False
        assert not Event.objects.exists()
    elif new in DEPLOYMENT[old]:
        assert change_state(row, new, by="x", why="api") is True
        assert Event.objects.get().data == {"old": old, "why": "api", "by": "x"}
    else:
        with pytest.raises(Rejected, match="that is final" if not DEPLOYMENT[old] else "it can become"):
            change_state(row, new, by="x")
    assert Deployment.objects.get().state == (new if new == old or new in DEPLOYMENT[old] else old)


def test_of_many_those_that_cannot_move_are_named_and_stop_no_other(agent: Agent) -> None:
    revoked, draft, active = (
        builders.deployment(agent, funded=False, state=state) for state in ("revoked", "draft", "active")
    )
    moved, refused = change_states([revoked, draft, active], DeploymentState.ACTIVE, by="x")
    assert moved == [draft]
    assert "that is final" in refused[revoked]
    assert refused[active] == "it is active already"
