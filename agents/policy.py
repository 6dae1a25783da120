"""Typed settings of `config/customers.yaml`, and the names of the configured post sources."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from maxxit.core.config import Count, Policy, Usd, load


class CustomerPolicy(Policy):
    """How much one customer may set up."""

    max_agents: Count
    max_deployments: Count
    """Revoked ones are not counted."""
    max_followed_accounts: Count
    """Per agent."""
    max_names_per_request: Count
    max_paper_usdc: Usd


@cache
def policy() -> CustomerPolicy:
    """Return the loaded settings. Raises `Misconfigured` naming the wrong key."""
    return load("customers", CustomerPolicy)


class _Ingest(BaseModel):
    sources: dict[str, Any]


class _Signals(BaseModel):
    ingest: _Ingest


def post_sources() -> tuple[str, ...]:
    """Return the names of the post sources of `config/signals.yaml`, which `signals_app` opens."""
    return tuple(load("signals", _Signals).ingest.sources)
