"""Agents and followed accounts as plain data, the same for the API and the commands' `--json`."""

from typing import Any

from agents.models import Agent, CtAccount
from agents.preferences import as_preferences, derive, preferences_problem
from maxxit.core.clock import iso_utc
from maxxit.core.errors import Rejected
from maxxit.core.money import plain


def preferences_in_force(agent: Agent) -> dict[str, int] | None:
    """Return the preferences that the agent's settings were derived from; None where they no longer agree."""
    if not agent.preferences or preferences_problem(agent.preferences):
        return None
    derived = derive(as_preferences(agent.preferences))
    same = (derived.weights, derived.sizing_preset, derived.min_confidence) == (
        agent.weights,
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
    """Return the agent with this id or name. Raises Rejected where there is none."""
    by_id = {"pk": int(text)} if text.isascii() and text.isdigit() and len(text) < 19 else {"name": text}
    agent = Agent.objects.select_related("owner").filter(**by_id).first()
    if agent is None:
        raise Rejected(f"no agent {text!r}: `manage.py agents list` shows them", code="not_found")
    return agent
