"""A public chain for tests: a stanza of config/chains.yaml that lies on the local node."""

from typing import Any

import pytest

from maxxit.core.config import load
from maxxit.ops.devchain.world import World
from trading.chain import chains

NAME = "testnet"
OWN = ("module", "executor", "guardian", "fee_receiver", "profit_receiver")


def stanza(world: World, *, without: tuple[str, ...] = (), **changes: Any) -> chains.ChainStanza:
    """The stanza of the local node as a public chain; `changes` to its contracts, `without` some of them."""
    contracts = world.contracts().model_dump() | changes
    kept = {key: value for key, value in contracts.items() if key not in without}
    local = load("chains", chains._Chains).__pydantic_extra__["local"].model_dump()
    return chains.ChainStanza.model_validate(
        local | {"rpcs": (world.rpc_url,), "rpc_env": "", "fee_tiers": (500, 3000), "contracts": kept}
    )


def configure(monkeypatch: pytest.MonkeyPatch, **stanzas: chains.ChainStanza) -> None:
    """Let config/chains.yaml hold these chains, and what it has beside its chains."""
    known = load("chains", chains._Chains)
    policies = {name: getattr(known, name) for name in chains._Chains.model_fields}
    configured = chains._Chains.model_validate(policies | stanzas)
    monkeypatch.setattr(chains, "_chains", lambda: configured)
