"""Seed data: the agents of config/agents.yaml."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from agents import seed
from agents.evidence import EVIDENCE
from agents.models import Agent, CtAccount, Deployment, Subscription
from agents.seed import SeedData
from maxxit.core.errors import Misconfigured
from tests.builders import RecordedClock

pytestmark = pytest.mark.django_db


def one(**fields: Any) -> dict[str, Any]:
    values = {
        "name": "Follower",
        "venue": "paper",
        "weights": dict.fromkeys(EVIDENCE, 50),
        "follows": ["*"],
        "deployments": [{"account": "paper:1", "balance_usdc": 1000}],
    }
    return values | fields


@pytest.fixture
def assemble(monkeypatch: pytest.MonkeyPatch, time: RecordedClock) -> Any:
    def run(*agents: dict[str, Any], usernames: tuple[str, ...] = ("a", "b")) -> list[Deployment]:
        monkeypatch.setattr(seed, "load", lambda *_: SeedData.model_validate({"agents": agents}))
        return seed.assemble("jsonl", list(usernames))

    return run


def test_the_cast_enters_active_funded_by_name_and_following(assemble: Any) -> None:
    [deployment] = assemble(one(min_confidence="0.6", sizing_preset="aggressive"))
    agent = deployment.agent

    assert (agent.state, deployment.state, deployment.starting_balance) == ("active", "active", Decimal(1000))
    assert (agent.min_confidence, agent.sizing_preset, agent.weights) == (
        Decimal("0.6"),
        "aggressive",
        dict.fromkeys(EVIDENCE, 50),
    )
    assert Subscription.objects.count() == CtAccount.objects.count() == 2


def test_entering_again_changes_nothing_that_a_person_changed(assemble: Any) -> None:
    assemble(one())
    Agent.objects.update(weights={"tweet": 7}, state="paused")
    assemble(one())

    assert Agent.objects.get().weights == {"tweet": 7}
    assert Agent.objects.get().state == "paused"
    assert Deployment.objects.count() == 1


def test_names_are_followed_with_at_in_any_case_and_by_the_address_of_a_profile(assemble: Any) -> None:
    assemble(one(follows=["@A", "https://x.com/b"]), usernames=("a", "b", "c"))

    followed = Subscription.objects.order_by("account").values_list("account__x_username", flat=True)
    assert list(followed) == ["a", "b"]


@pytest.mark.parametrize("name", ["", "two words", "sixteen_letters_", "https://evil.com/a"])
def test_a_name_that_is_none_of_x_is_refused(assemble: Any, name: str) -> None:
    with pytest.raises(ValidationError, match="1 to 15 letters, digits or underscores"):
        assemble(one(follows=[name]))


def test_an_agent_without_follows_follows_nobody(assemble: Any) -> None:
    assemble(one(follows=[]))

    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"venue": "nowhere"}, "nowhere"),
        ({"tokens": ["DOGE"]}, "DOGE"),
        ({"weights": {"tweet": 100, "moon": 1}}, "no piece of evidence named moon; known: tweet, rsi"),
        ({"weights": {"tweet": 100, "rsi": 0}}, "no weight for macd, bollinger"),
    ],
)
def test_seed_data_with_unknown_names_is_refused(assemble: Any, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        assemble(one(**wrong))


@pytest.mark.parametrize("weight", [101, -1])
def test_a_weight_outside_0_to_100_is_refused(assemble: Any, weight: int) -> None:
    with pytest.raises((Misconfigured, ValueError)):
        assemble(one(weights=dict.fromkeys(EVIDENCE, 50) | {"tweet": weight}))


def test_two_agents_on_one_paper_account_leave_no_drift(assemble: Any) -> None:
    from trading import reconcile
    from trading.deployments.funding import fund

    for deployment in assemble(one(), one(name="Other")):
        fund(deployment)

    assert reconcile.drifts() == {}
