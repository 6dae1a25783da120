"""Seed data for the demo and replays: creates the agents, subscriptions and deployments of `config/agents.yaml`."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator

from agents.evidence import EVIDENCE, UNMEASURED, weights_problem
from agents.following import clean_name, name_problem
from agents.models import Agent, CtAccount, Deployment, Subscription
from agents.states import AgentState, DeploymentState
from maxxit.core.config import Fraction, Policy, Usd, load
from maxxit.core.errors import Misconfigured
from maxxit.core.terms import ExitPreset, Preset
from maxxit.events.record import advance
from maxxit.market.instruments import instrument
from maxxit.market.venues import venue_policy


class SeedDeployment(Policy):
    """A deployment on a paper account."""

    account: str
    balance_usdc: Usd


class SeedAgent(Policy):
    """One agent of the file."""

    name: str
    venue: str
    weights: dict[str, Annotated[int, Field(ge=0, le=100)]]
    tokens: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    """User names; `*` follows every account."""
    sizing_preset: Preset = Preset.MODERATE
    exit_preset: ExitPreset = ExitPreset.SIGNAL
    min_confidence: Fraction = Decimal("0.5")
    deployments: tuple[SeedDeployment, ...] = Field(min_length=1)

    @field_validator("follows")
    @classmethod
    def _names(cls, follows: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(clean_name(name) for name in follows)
        for name in names:
            if name != "*" and (problem := name_problem(name)):
                raise ValueError(f"{name or 'an empty name'}: {problem}")
        return names


class SeedData(Policy):
    """The whole file."""

    agents: tuple[SeedAgent, ...]


def assemble(source: str, usernames: list[str]) -> list[Deployment]:
    """Create the missing agents and deployments of `agents.yaml`, active and subscribed; returns all its deployments.

    `usernames` are the accounts of the post source `source`.
    """
    for username in usernames:
        CtAccount.objects.get_or_create(x_username=username, defaults={"source": source})
    return [deployment for entry in load("agents", SeedData).agents for deployment in _create(entry)]


def _create(entry: SeedAgent) -> list[Deployment]:
    venue_policy(entry.venue)
    for token in entry.tokens:
        instrument(token)
    missing = [name for name in EVIDENCE if name not in entry.weights and name not in UNMEASURED]
    if problem := weights_problem(entry.weights) or (missing and f"no weight for {', '.join(missing)}"):
        raise Misconfigured(f"config/agents.yaml: agent {entry.name!r}: {problem}")
    agent, new = Agent.objects.get_or_create(
        name=entry.name,
        owner=None,
        defaults={
            "venue": entry.venue,
            "tokens": list(entry.tokens),
            "sizing_preset": entry.sizing_preset,
            "exit_preset": entry.exit_preset,
            "min_confidence": entry.min_confidence,
            "weights": entry.weights,
        },
    )
    if new:
        advance(agent, AgentState.ACTIVE)
    wanted = {name.lower() for name in entry.follows}
    followed = [
        Subscription(agent=agent, account=account)
        for account in CtAccount.objects.order_by("pk")
        if "*" in wanted or account.x_username.lower() in wanted
    ]
    Subscription.objects.bulk_create(followed, ignore_conflicts=True)
    return [_deploy(agent, wanted) for wanted in entry.deployments]


def _deploy(agent: Agent, wanted: SeedDeployment) -> Deployment:
    deployment, new = Deployment.objects.get_or_create(
        agent=agent, account=wanted.account, defaults={"starting_balance": wanted.balance_usdc}
    )
    if new:
        advance(deployment, DeploymentState.ACTIVE)
    return deployment
