"""States and transitions. Agent: draft -> active <-> paused. Deployment: the same, and -> revoked from each."""

from enum import StrEnum


class AgentState(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"


class DeploymentState(StrEnum):
    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    REVOKED = "revoked"


AGENT = {
    AgentState.DRAFT: frozenset({AgentState.ACTIVE}),
    AgentState.ACTIVE: frozenset({AgentState.PAUSED}),
    AgentState.PAUSED: frozenset({AgentState.ACTIVE}),
}

DEPLOYMENT = {
    DeploymentState.DRAFT: frozenset({DeploymentState.ACTIVE, DeploymentState.REVOKED}),
    DeploymentState.ACTIVE: frozenset({DeploymentState.PAUSED, DeploymentState.REVOKED}),
    DeploymentState.PAUSED: frozenset({DeploymentState.ACTIVE, DeploymentState.REVOKED}),
    DeploymentState.REVOKED: frozenset(),
}
