"""The fallback order of LLM providers: which are tried for a purpose, in order."""

from dataclasses import dataclass

from maxxit.core.errors import Misconfigured
from maxxit.llm.policy import LlmPolicy, ProviderStanza
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Provider


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider of the fallback order with its settings."""

    provider: Provider
    stanza: ProviderStanza


def candidates(policy: LlmPolicy, purpose: str, *, callable_only: bool = True) -> list[Candidate]:
    """Return the providers of a purpose that can be called, in order.

    Raises `Misconfigured` naming the environment variables when none can. A replay calls no provider, so it passes
    `callable_only=False` and needs no keys.
    """
    order = [(name, policy.provider(name)) for name in policy.purpose(purpose).chain]
    if callable_only:
        missing = [f"{name}: {stanza.missing}" for name, stanza in order if stanza.missing]
        order = [(name, stanza) for name, stanza in order if not stanza.missing]
        if not order:
            raise Misconfigured(
                f"no language model is configured for {purpose!r}: set one of these environment variables"
                f" ({'; '.join(missing)}), or list another provider in config/llm.yaml"
            )
    return [Candidate(open_provider(name, stanza), stanza) for name, stanza in order]


def open_provider(name: str, stanza: ProviderStanza) -> Provider:
    """Create the adapter of one provider of `config/llm.yaml`."""
    return PROVIDERS.open(
        stanza.adapter,
        name=name,
        model=stanza.model,
        base_url=stanza.place,
        key=stanza.key,
        temperature=float(stanza.temperature),
        timeout=float(stanza.timeout_seconds),
    )
