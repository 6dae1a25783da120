"""The executor's keys of this process, for people: where each is, its address, whether config/chains.yaml names it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from maxxit.core.errors import MaxxitError, Misconfigured
from trading.chain import chains
from trading.chain.signer import CURRENT, configured_sources, executor_address, kind_of


@dataclass(frozen=True, slots=True)
class ExecutorKey:
    """One key."""

    variable: str
    """The environment variable that names it."""
    kind: str
    """`keystore`, or the scheme of the service that holds it."""
    address: str
    """Empty where it cannot be read."""
    problem: str
    """Why it cannot be used or should not be; empty where nothing is known."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.variable}: {self.kind}, {self.address or 'address unknown'}"


def executor_keys(traded: Iterable[str]) -> list[ExecutorKey]:
    """Return the keys of this process; none where it does not sign. Decrypts nothing, asks key services.

    `traded`: chains of config/chains.yaml whose `executor` must be the current key.
    """
    found = []
    for source in configured_sources():
        address = problem = ""
        try:
            address = executor_address(source)
            if source is CURRENT:
                problem = _differing(address, traded)
        except MaxxitError as error:
            problem = str(error)
        found.append(ExecutorKey(source.keystore, kind_of(source), address, problem))
    return found


def _differing(address: str, traded: Iterable[str]) -> str:
    """Return which chains name another executor, which the processes without a key go by; empty for none."""
    others = []
    for name in sorted(set(traded)):
        try:
            named = chains.contracts(chains.stanza(name)).executor
        except Misconfigured:
            continue  # nothing trades there yet
        if named != address:
            others.append(f"{name} names {named}")
    if not others:
        return ""
    return (
        f"config/chains.yaml, {'; '.join(others)}, but this process signs with {address}: set `executor` to it, and "
        "`previous_executor` to the one before"
    )
