"""Create deployments: an agent that trades for one account of its owner, first as a draft."""

import secrets
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from agents.models import Agent, Deployment
from agents.policy import policy
from agents.states import DeploymentState
from maxxit.core.errors import InvalidInput, Misconfigured, Rejected
from maxxit.core.money import USDC_UNIT, ZERO, plain
from maxxit.events.record import record
from maxxit.market.venues import venue_policy

MOST_SAFE_USDC = Decimal(10**9)
"""Beyond any limit that a Safe's policy can hold."""


def create_deployment(
    agent: Agent, owner: AbstractBaseUser, *, by: str, capital: Decimal | None = None
) -> Deployment:
    """Create a draft of `agent` trading for `owner`, at an account of its own.

    Args:
        capital: USDC that a paper account starts with, or that its owner means to keep in a Safe: the limits that the
            owner signs are proportionate to it. At another venue it is what its owner deposits, and not given.

    Raises InvalidInput for a wrong amount, Rejected where the owner has as many deployments as are allowed.
    """
    paper, safe = is_paper(agent), trades_from_safes(agent)
    balance = starting_balance(capital) if paper else ZERO
    if not paper and not safe and capital is not None:
        raise InvalidInput(
            {"capital": f"only paper accounts start with play money: deposit USDC at {agent.venue}"}
        )
    with transaction.atomic():
        get_user_model()._default_manager.select_for_update(no_key=True).get(pk=owner.pk)
        most = policy().max_deployments
        standing = Deployment.objects.filter(owner_id=owner.pk).exclude(state=DeploymentState.REVOKED)
        if (count := standing.count()) >= most:
            raise Rejected(
                f"{owner} has {count} deployments, and {most} are allowed: revoke one first",
                code="too_many_deployments",
            )
        deployment = Deployment.objects.create(
            agent=agent,
            owner_id=owner.pk,
            account=f"{agent.venue}:{secrets.token_hex(6)}",
            starting_balance=balance,
            safe_capital=safe_capital(capital) if safe and capital is not None else None,
        )
        record("deployment.created", deployment, by=by)
    return deployment


def set_capital(deployment: Deployment, capital: Decimal, *, by: str) -> None:
    """Set the starting balance of a paper deployment, or what its owner means to keep in a Safe, while it is a draft.

    Raises Rejected for one that has started, InvalidInput for a wrong amount.
    """
    agent = deployment.agent
    if trades_from_safes(agent):
        field, value = "safe_capital", safe_capital(capital)
    elif is_paper(agent):
        field, value = "starting_balance", starting_balance(capital)
    else:
        raise InvalidInput({"capital": "only paper accounts start with play money"})
    with transaction.atomic():
        locked = Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
        if locked.state != DeploymentState.DRAFT:
            name = field.replace("_", " ")
            raise Rejected(
                f"deployment {locked.pk} is {locked.state}: its {name} is fixed; create another one",
                code="not_allowed_now",
            )
        old = getattr(locked, field)
        setattr(locked, field, value)
        locked.save(update_fields=[field])
        changes = {field: [None if old is None else plain(old), plain(value)]}
        record("deployment.changed", locked, by=by, changes=changes)
    setattr(deployment, field, value)


def trades_from_safes(agent: Agent) -> bool:
    """Return whether the agent's venue trades from users' own Safes."""
    try:
        return venue_policy(agent.venue).uses_safes
    except Misconfigured as error:
        raise Rejected(str(error), code="unknown_venue") from error


def safe_capital(capital: Decimal) -> Decimal:
    """Return a valid capital of a Safe in USDC. Raises InvalidInput."""
    if not capital.is_finite() or not USDC_UNIT <= capital <= MOST_SAFE_USDC:
        raise InvalidInput(
            {"capital": f"enter more than 0 and at most {plain(MOST_SAFE_USDC)} USDC, not {capital}"}
        )
    if capital != capital.quantize(USDC_UNIT):
        raise InvalidInput({"capital": f"USDC has six decimals: {capital} has more"})
    return capital


def is_paper(agent: Agent) -> bool:
    """Return whether the agent's venue trades play money."""
    try:
        return venue_policy(agent.venue).paper
    except Misconfigured as error:
        raise Rejected(str(error), code="unknown_venue") from error


def starting_balance(capital: Decimal | None) -> Decimal:
    """Return a valid starting balance in USDC; without `capital` the model's default. Raises InvalidInput."""
    if capital is None:
        default: Decimal = Deployment._meta.get_field("starting_balance").get_default()
        return default
    most = policy().max_paper_usdc
    if not capital.is_finite() or not USDC_UNIT <= capital <= most:
        raise InvalidInput({"capital": f"enter more than 0 and at most {plain(most)} USDC, not {capital}"})
    if capital != capital.quantize(USDC_UNIT):
        raise InvalidInput({"capital": f"USDC has six decimals: {capital} has more"})
    return capital
