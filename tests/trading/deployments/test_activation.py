"""A deployment is activated when its plan can work, and refused with every reason where it cannot."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from agents.models import Agent, Deployment
from maxxit.core.errors import InvalidInput, Rejected
from maxxit.events.models import Event
from tests import builders
from tests.builders import TWEETS_ONLY
from trading.deployments import activation
from trading.models import PaperBalance

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


def draft(owner: User, *, usdc: str = "5000", follows: bool = True, **fields: Any) -> Deployment:
    values: dict[str, Any] = {"owner": owner, "state": "draft"} | fields
    agent = builders.agent(**values)
    if follows:
        builders.account(agent)
    return builders.deployment(agent, usdc=usdc, funded=False, state="draft", owner=owner)


def test_activation_starts_the_draft_agent_and_funds_the_paper_account_once(alice: User) -> None:
    deployment = draft(alice)
    assert activation.activate(deployment, by="alice", why="api") is True
    assert Deployment.objects.get().state == Agent.objects.get().state == "active"
    assert PaperBalance.objects.get(account=deployment.account).amount == 5000
    assert activation.activate(deployment, by="alice") is False
    activation.pause(deployment, by="alice")
    activation.activate(deployment, by="alice")
    assert PaperBalance.objects.get(account=deployment.account).amount == 5000
    assert Event.objects.filter(name="deployment.active").count() == 2


def test_every_reason_why_it_cannot_work_is_named(alice: User) -> None:
    deployment = draft(alice, usdc="500", follows=False, sizing_preset="conservative")
    with pytest.raises(
        Rejected, match=r"follows no account .*; with 500 USDC, conservative would place"
    ) as refused:
        activation.activate(deployment, by="alice")
    assert refused.value.code == "cannot_work"
    assert Deployment.objects.get().state == Agent.objects.get().state == "draft"


def test_an_agent_that_weighs_no_posts_need_not_follow_anybody(alice: User) -> None:
    deployment = draft(alice, follows=False, weights=dict.fromkeys(TWEETS_ONLY, 0) | {"rsi": 50})
    assert activation.activate(deployment, by="alice")


def test_a_paused_agent_and_a_strangers_draft_are_named(alice: User) -> None:
    paused = draft(alice, state="paused")
    with pytest.raises(Rejected, match="is paused: activate it first"):
        activation.activate(paused, by="alice")
    strange = draft(alice)
    Agent.objects.filter(pk=strange.agent_id).update(owner=User.objects.create_user("bob"))
    with pytest.raises(Rejected, match="draft of another owner"):
        activation.activate(Deployment.objects.get(pk=strange.pk), by="alice")


def test_a_revoked_deployment_stays_revoked(alice: User) -> None:
    deployment = draft(alice, follows=False)
    activation.revoke(deployment, by="alice")
    with pytest.raises(Rejected, match="that is final"):
        activation.activate(deployment, by="alice")
    assert Agent.objects.get().state == "draft"


def test_one_that_was_paused_starts_again_whatever_it_has_left(alice: User) -> None:
    deployment = draft(alice)
    activation.activate(deployment, by="alice")
    activation.pause(deployment, by="alice")
    Deployment.objects.update(starting_balance=1)
    assert activation.activate(Deployment.objects.select_related("agent").get(), by="alice")


def test_a_check_uses_the_limits_fees_and_costs_in_force(alice: User) -> None:
    assert (
        activation.check(Decimal(500), "conservative").problems[0].endswith("choose moderate, or 1,000 USDC")
    )
    assert activation.check(Decimal(1000), "conservative", "safe").minimum == 10
    agent = builders.agent(trade_fee="flat amount_usdc=0.1")
    assert activation.check(Decimal(5000), agent=agent).fees["low"] == Decimal("0.1")
    with pytest.raises(InvalidInput) as refused:
        activation.check(Decimal(-1), "bold", "moon", "never")
    assert set(refused.value.problems) == {"capital", "preset", "venue", "exit_preset"}
