"""Agents and followed accounts as plain data, the same for the API and the commands' `--json`."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet

from agents.models import Agent, CtAccount
from agents.preferences import as_preferences, derive, preferences_problem
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import plain

MOST = 20
"""Agents of one name that a message lists."""


def preferences_in_force(agent: Agent) -> dict[str, int] | None:
    """Return the preferences that the agent's settings were derived from; None where they no longer agree."""
    if not agent.preferences or preferences_problem(agent.preferences):
        return None
    derived = derive(as_preferences(agent.preferences))
    # Agents keep the weights of their time: a piece that was added later is missing, and weighs nothing.
    same = (derived.weights, derived.sizing_preset, derived.min_confidence) == (
        dict.fromkeys(derived.weights, 0) | agent.weights,
        agent.sizing_preset,
        agent.min_confidence,
    )
    return dict(agent.preferences) if same else None


def agent_data(agent: Agent) -> dict[str, Any]:
    """Return an agent with the accounts that it follows. Prefetch `subscriptions__account` for lists."""
    follows = sorted((row.account.x_username for row in agent.subscriptions.all()), key=str.lower)
    return {
        "id": agent.pk,
        "name": agent.name,
        "owner": str(agent.owner) if agent.owner_id else None,
        "status": agent.state.upper(),
        "venue": agent.venue,
        "tokens": list(agent.tokens),
        "sizing_preset": agent.sizing_preset,
        "exit_preset": agent.exit_preset,
        "min_confidence": plain(agent.min_confidence),
        "volatility_target_pct": None
        if agent.volatility_target_pct is None
        else plain(agent.volatility_target_pct),
        "weights": dict(agent.weights),
        "preferences": preferences_in_force(agent),
        "follows": follows,
        "created_at": iso_utc(agent.created_at),
    }


def account_data(account: CtAccount) -> dict[str, Any]:
    """Return an account that agents may follow."""
    return {
        "id": account.pk,
        "name": account.x_username,
        "display_name": account.display_name,
        "source": account.source,
        "active": account.is_active,
        "followers": account.followers_count,
        "impact_factor": plain(account.impact_factor),
        "last_seen_at": iso_utc(account.last_seen_at) if account.last_seen_at else None,
    }


def agent_named(text: str) -> Agent:
    """Return the agent with this id, name, or `owner/name` (`/name` of the platform's).

    Raises Rejected where there is none (`not_found`), and for a name of several (`ambiguous`).
    """
    agents = Agent.objects.select_related("owner")
    agent = (
        agents.filter(pk=int(text)).first() if text.isascii() and text.isdigit() and len(text) < 19 else None
    )
    agent = agent or one_of(matching(agents, text), text)
    if agent is None:
        raise Rejected(f"no agent {text!r}: `manage.py agents list` shows them", code="not_found")
    return agent


def matching(agents: QuerySet[Agent], text: str) -> list[Agent]:
    """Return those of `agents` that a name or `owner/name` means, in any case of letters."""
    named = list(agents.select_related("owner").filter(name__iexact=text).order_by("pk")[:MOST])
    owner, slash, name = text.partition("/")
    if not slash:
        return named
    whose = Q(owner__username__iexact=owner) if owner else Q(owner=None)
    return named + list(agents.select_related("owner").filter(whose, name__iexact=name).order_by("pk")[:MOST])


def one_of(agents: Sequence[Agent], text: str) -> Agent | None:
    """Return the only agent, else the only one of exactly this name; None without any.

    Raises Rejected (`ambiguous`).
    """
    exact = [agent for agent in agents if agent.name == text]
    choice = agents if len(agents) < 2 or not exact else exact
    if len(choice) > 1:
        known = ", ".join(f"{agent.pk} ({full_name(agent)})" for agent in choice)
        raise Rejected(
            f"{len(choice)} agents are named {text!r}: give the id, or owner/name: {known}", code="ambiguous"
        )
    return choice[0] if choice else None


def names_of(agent: Agent) -> list[str]:
    """Return what documents may call the agent: its id, `owner/name`, and the name alone of a platform's."""
    return [str(agent.pk), full_name(agent), *([agent.name] if agent.owner_id is None else [])]


def full_name(agent: Agent) -> str:
    """Return `owner/name`, which no two agents share; `/name` of the platform's."""
    return f"{agent.owner.get_username() if agent.owner else ''}/{agent.name}"
