"""`config/agents.yaml`: agents, the accounts they follow and their deployments, for the demo and for replays."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from agents.models import WEIGHTS, Agent, CtAccount, Deployment, Subscription
from agents.states import AgentState, DeploymentState
from maxxit.core.config import Fraction, Policy, Usd, load
from maxxit.core.errors import Misconfigured
from maxxit.core.terms import ExitPreset, Preset
from maxxit.events.record import advance
from maxxit.market.instruments import instrument
from maxxit.market.venues import venue_policy


class SeedDeployment(Policy):
    """A deployment on paper."""

    account: str
    balance_usdc: Usd


class SeedAgent(Policy):
    """One agent as the file describes it."""

    name: str
    venue: str
    weights: dict[str, Annotated[int, Field(ge=0, le=100)]]
    tokens: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    """Usernames; `*` follows every account there is."""
    sizing_preset: Preset = Preset.MODERATE
    exit_preset: ExitPreset = ExitPreset.SIGNAL
    min_confidence: Fraction = Decimal("0.5")
    deployments: tuple[SeedDeployment, ...] = Field(min_length=1)


class SeedData(Policy):
    """The whole file."""

    agents: tuple[SeedAgent, ...]


def assemble(source: str, usernames: list[str]) -> list[Deployment]:
    """Create what `agents.yaml` names and is not there yet, active and following; returns all its deployments.

    `usernames` are the accounts that the post source `source` holds.
    """
    for username in usernames:
        CtAccount.objects.get_or_create(x_username=username, defaults={"source": source})
    return [deployment for one in load("agents", SeedData).agents for deployment in _enter(one)]


def _enter(one: SeedAgent) -> list[Deployment]:
    venue_policy(one.venue)
    for token in one.tokens:
        instrument(token)
    if set(one.weights) != set(WEIGHTS):
        raise Misconfigured(
            f"config/agents.yaml: agent {one.name!r} needs exactly the weights {', '.join(WEIGHTS)}"
        )
    agent, new = Agent.objects.get_or_create(
        name=one.name,
        defaults={
            "venue": one.venue,
            "tokens": list(one.tokens),
            "sizing_preset": one.sizing_preset,
            "exit_preset": one.exit_preset,
            "min_confidence": one.min_confidence,
            **{f"weight_{name}": weight for name, weight in one.weights.items()},
        },
    )
    if new:
        advance(agent, AgentState.ACTIVE)
    followed = (
        CtAccount.objects.all()
        if "*" in one.follows
        else CtAccount.objects.filter(x_username__in=one.follows)
    )
    Subscription.objects.bulk_create(
        [Subscription(agent=agent, account=account) for account in followed.order_by("pk")],
        ignore_conflicts=True,
    )
    return [_deploy(agent, wanted) for wanted in one.deployments]


def _deploy(agent: Agent, wanted: SeedDeployment) -> Deployment:
    deployment, new = Deployment.objects.get_or_create(
        agent=agent, account=wanted.account, defaults={"starting_balance": wanted.balance_usdc}
    )
    if new:
        advance(deployment, DeploymentState.ACTIVE)
    return deployment
