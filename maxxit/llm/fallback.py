"""Which providers are asked for a purpose, in which order."""

from dataclasses import dataclass

from maxxit.core.errors import Misconfigured
from maxxit.llm.policy import LlmPolicy, ProviderStanza
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Link:
    """One provider of the chain with its limits."""

    provider: Provider
    stanza: ProviderStanza


def links(policy: LlmPolicy, purpose: str, *, callable_only: bool = True) -> list[Link]:
    """The providers of a purpose that can be called, in order.

    Raises `Misconfigured` naming the environment variables when none can. A replay calls nobody, so it passes
    `callable_only=False` and needs no keys.
    """
    chain = [(name, policy.provider(name)) for name in policy.purpose(purpose).chain]
    if callable_only:
        wanting = [f"{name}: {stanza.missing}" for name, stanza in chain if stanza.missing]
        chain = [(name, stanza) for name, stanza in chain if not stanza.missing]
        if not chain:
            raise Misconfigured(
                f"no language model can be asked for {purpose!r}: set one of these environment variables"
                f" ({'; '.join(wanting)}), or name another provider in config/llm.yaml"
            )
    return [Link(open_provider(name, stanza), stanza) for name, stanza in chain]


def open_provider(name: str, stanza: ProviderStanza) -> Provider:
    """The adapter of one stanza."""
    return PROVIDERS.open(
        stanza.adapter,
        name=name,
        model=stanza.model,
        base_url=stanza.place,
        key=stanza.key,
        temperature=float(stanza.temperature),
        timeout=float(stanza.timeout_seconds),
    )
