"""`config/llm.yaml`: which provider reads for which purpose, within which limits, and what is kept of it."""

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from maxxit.core.config import ROOT, Count, Policy, Seconds, load, variable
from maxxit.core.errors import Misconfigured

UsdPrice = Annotated[Decimal, Field(ge=0)]
Mode = Literal["off", "record", "replay"]
MODES: tuple[Mode, ...] = ("off", "record", "replay")


class Remote(Policy):
    """An adapter and the address that it speaks to."""

    adapter: str
    base_url: str = ""
    base_url_env: str = ""
    """Environment variable that overrides `base_url`."""

    @property
    def place(self) -> str:
        """The base URL in force, or an empty string."""
        return variable(self.base_url_env) or self.base_url


class ProviderStanza(Remote):
    """One provider: an adapter with a model, a place and a price."""

    model: str = ""
    key_env: str = ""
    """Environment variable that holds the API key; empty for a provider that wants none."""
    temperature: Annotated[Decimal, Field(ge=0, le=2)] = Decimal("0.3")
    timeout_seconds: Seconds = 60
    concurrency: Annotated[int, Field(gt=0, le=64)] = 4
    """Calls in flight at once, over all workers."""
    usd_per_million_prompt: UsdPrice = Decimal(0)
    usd_per_million_completion: UsdPrice = Decimal(0)
    usd_per_call: UsdPrice = Decimal(0)
    budget_usd_per_day: UsdPrice | None = None
    """What this provider may bill us a UTC day, all purposes together; None: the purposes' budgets are enough."""
    local: bool = False
    """Runs inside this process: needs no budget, no breaker, no slot."""

    @property
    def key(self) -> str:
        """The API key from the environment, or an empty string."""
        return variable(self.key_env)

    @property
    def missing(self) -> str:
        """The environment variable without which this provider cannot be asked, or an empty string."""
        if self.key_env and not self.key:
            return self.key_env
        return "" if self.local or self.place else self.base_url_env or "base_url"

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> Decimal:
        """USD for one call. A provider that does not say its tokens is charged per call only."""
        million = Decimal(1_000_000)
        return (
            self.usd_per_call
            + (prompt_tokens or 0) * self.usd_per_million_prompt / million
            + (completion_tokens or 0) * self.usd_per_million_completion / million
        )


class PurposeStanza(Policy):
    """One kind of question and what it may cost."""

    chain: Annotated[tuple[str, ...], Field(min_length=1)]
    """Providers in order; the next is asked when one cannot answer."""
    budget_usd_per_day: UsdPrice
    """UTC day, all providers together. The call that crosses it is the last."""
    calls_per_day: Count
    calls_per_account_per_day: Count | None = None
    """Of all calls, those about one account (the author of the posts, or the agent): nobody uses up the day alone."""
    budget_usd_per_account_per_day: UsdPrice | None = None
    """Of the day's budget, what calls about one account may cost. The call that crosses it is the last."""
    items: str = ""
    """The list in the data whose length scales the answer, for example `posts`."""
    max_item_chars: Annotated[int, Field(ge=0)] = 0
    """A longer `text` of an item is cut for the prompt, with a mark; 0: none is cut."""
    max_tokens: Count = 500
    """Of an answer about one item."""
    max_tokens_per_further_item: Annotated[int, Field(ge=0)] = 0
    max_tokens_cap: Count = 8192

    def tokens_for(self, count: int) -> int:
        """The longest answer about `count` items, in tokens."""
        further = self.max_tokens_per_further_item * max(count - 1, 0)
        return min(self.max_tokens + further, self.max_tokens_cap)


class Breaker(Policy):
    """After `failures` in a row a provider rests for `open_seconds`; then one probe decides."""

    failures: Count
    open_seconds: Seconds
    probe_seconds: Seconds
    """How long a probe may take before another one is let through."""


class Traces(Policy):
    """What is kept of every call."""

    enabled: bool
    store: bool
    level: Literal["DEBUG", "INFO"]
    preview_chars: Count
    keep_days: Count


class ExporterStanza(Remote):
    """Where finished traces can go as well."""

    public_key_env: str = ""
    secret_key_env: str = ""
    """Environment variables of the two halves of a login."""
    headers_env: str = ""
    """Environment variable with more headers: `name=value,name=value`, values percent-encoded."""
    timeout_seconds: Seconds = 10
    batch: Annotated[int, Field(gt=0, le=1000)] = 50
    """Traces in one request."""
    batches_per_pass: Count = 20


class Recordings(Policy):
    """Record answers, or answer from the record."""

    mode: Mode
    path: str

    @field_validator("mode", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare `off` as false

    @property
    def folder(self) -> Path:
        return ROOT / self.path


class LlmPolicy(Policy):
    """The whole file."""

    purposes: dict[str, PurposeStanza]
    providers: dict[str, ProviderStanza]
    breaker: Breaker
    slot_wait_seconds: Annotated[Decimal, Field(ge=0, le=60)]
    """How long a call waits for a free slot of its provider."""
    traces: Traces
    exports: tuple[str, ...] = ()
    """Names of `exporters` that get every stored trace."""
    exporters: dict[str, ExporterStanza] = Field(default_factory=dict)
    recordings: Recordings

    @model_validator(mode="after")
    def _exports_are_known(self) -> Self:
        if unknown := sorted(set(self.exports) - self.exporters.keys()):
            known = ", ".join(sorted(self.exporters)) or "none"
            raise ValueError(f"exports names {', '.join(unknown)}; exporters known: {known}")
        return self

    def purpose(self, name: str) -> PurposeStanza:
        """The stanza. Raises `Misconfigured` with the known ones."""
        if name not in self.purposes:
            known = ", ".join(sorted(self.purposes))
            raise Misconfigured(f"config/llm.yaml: no purpose {name!r}; known: {known}")
        return self.purposes[name]

    def provider(self, name: str) -> ProviderStanza:
        """The stanza. Raises `Misconfigured` with the known ones."""
        if name not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise Misconfigured(f"config/llm.yaml: no provider {name!r}; known: {known}")
        return self.providers[name]


def policy() -> LlmPolicy:
    """The policy in force."""
    return load("llm", LlmPolicy)


def recordings() -> Recordings:
    """As the file says, unless MAXXIT_LLM_RECORDINGS says `off`, `record`, `replay`, or `mode:folder`."""
    given = os.environ.get("MAXXIT_LLM_RECORDINGS", "")
    if not given:
        return policy().recordings
    name, _, path = given.partition(":")
    for mode in MODES:
        if name == mode:
            return Recordings(mode=mode, path=path or policy().recordings.path)
    raise Misconfigured(f"MAXXIT_LLM_RECORDINGS={given!r}: say one of {', '.join(MODES)}, or mode:folder")


def switch(env: str, configured: bool) -> bool:
    """`configured`, unless the environment variable says otherwise (1/0, true/false, yes/no, on/off)."""
    said = os.environ.get(env, "").strip().lower()
    if not said:
        return configured
    if said in {"1", "true", "yes", "on"}:
        return True
    if said in {"0", "false", "no", "off"}:
        return False
    raise Misconfigured(f"{env}={said!r}: say true or false")
