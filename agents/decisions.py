"""Whose decision an event records: `data.agent_id`; in events from before it was recorded, `data.agent`, the name.

Names were unique until then, so an agent made those under its name since it was created.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.models import Agent

MADE_BY = """
e.data->>'agent' = ANY(%(agent_names)s) AND coalesce(e.data->>'agent_id' = ANY(%(agent_keys)s), EXISTS (
    SELECT FROM unnest(%(agent_names)s::text[], %(agent_since)s::timestamptz[]) AS a(name, since)
    WHERE a.name = e.data->>'agent' AND e.at >= a.since))
"""
"""SQL condition of an event `e`; its parameters are `Deciders.params`."""


@dataclass(frozen=True, slots=True)
class Deciders:
    """Agents whose decisions are looked for."""

    agents: tuple[tuple[int, str, datetime], ...]
    """Id, name, and when it was created."""

    @classmethod
    def of(cls, agents: Iterable[Agent]) -> "Deciders":
        return cls(tuple((agent.pk, agent.name, agent.created_at) for agent in agents))

    def made(self, data: Mapping[str, Any], at: datetime) -> bool:
        """Return whether one of the agents made the decision of an event with `data` at `at`."""
        if data.get("agent_id") is not None:
            return any(pk == data["agent_id"] for pk, _, _ in self.agents)
        return any(name == data.get("agent") and at >= since for _, name, since in self.agents)

    def concern(self, data: Mapping[str, Any], at: datetime) -> bool:
        """Return whether an event names no agent, or one of these."""
        return not data.get("agent") or self.made(data, at)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of `MADE_BY`."""
        return {
            "agent_keys": [str(pk) for pk, _, _ in self.agents],
            "agent_names": [name for _, name, _ in self.agents],
            "agent_since": [since for _, _, since in self.agents],
        }
