"""`config/llm.yaml`: providers, the fallback order and limits of each purpose, traces, exporters, recordings."""

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
    """An adapter and its URL."""

    adapter: str
    base_url: str = ""
    base_url_env: str = ""
    """Environment variable that overrides `base_url`."""

    @property
    def place(self) -> str:
        """The effective base URL, or an empty string."""
        return variable(self.base_url_env) or self.base_url


class ProviderStanza(Remote):
    """A provider: an adapter with a model, a URL and prices."""

    model: str = ""
    key_env: str = ""
    """Environment variable with the API key; empty for a provider without one."""
    temperature: Annotated[Decimal, Field(ge=0, le=2)] = Decimal("0.3")
    timeout_seconds: Seconds = 60
    concurrency: Annotated[int, Field(gt=0, le=64)] = 4
    """Concurrent calls over all workers."""
    usd_per_million_prompt: UsdPrice = Decimal(0)
    usd_per_million_completion: UsdPrice = Decimal(0)
    usd_per_call: UsdPrice = Decimal(0)
    budget_usd_per_day: UsdPrice | None = None
    """Daily budget (UTC) of this provider over all purposes; None: only the purposes' budgets apply."""
    local: bool = False
    """Runs inside this process: no budget, circuit breaker or slot applies."""

    @property
    def key(self) -> str:
        """The API key from the environment, or an empty string."""
        return variable(self.key_env)

    @property
    def missing(self) -> str:
        """The environment variable that is missing to call this provider, or an empty string."""
        if self.key_env and not self.key:
            return self.key_env
        return "" if self.local or self.place else self.base_url_env or "base_url"

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> Decimal:
        """Return the cost of one call in USD; without reported tokens only the price per call."""
        million = Decimal(1_000_000)
        return (
            self.usd_per_call
            + (prompt_tokens or 0) * self.usd_per_million_prompt / million
            + (completion_tokens or 0) * self.usd_per_million_completion / million
        )


class PurposeStanza(Policy):
    """A kind of prompt with its fallback order and limits."""

    prompt: str = ""
    """The purpose whose prompt is asked with; empty: its own."""
    chain: Annotated[tuple[str, ...], Field(min_length=1)]
    """Providers in fallback order: the next is tried when one cannot answer."""
    budget_usd_per_day: UsdPrice
    """Per UTC day over all providers; the call that exceeds it is the last."""
    calls_per_day: Count
    calls_per_account_per_day: Count | None = None
    """Calls about one account (author or agent) per day, so that none uses up the whole budget."""
    budget_usd_per_account_per_day: UsdPrice | None = None
    """Cost of calls about one account per day; the call that exceeds it is the last."""
    items: str = ""
    """The list in the data whose length scales `max_tokens`."""
    item_id: str = ""
    """The key that names an item in the trace; empty: its index in the list."""
    max_item_chars: Annotated[int, Field(ge=0)] = 0
    """A longer `text` of an item is truncated with a mark; 0: no limit."""
    max_tokens: Count = 500
    """For an answer about one item."""
    max_tokens_per_further_item: Annotated[int, Field(ge=0)] = 0
    max_tokens_cap: Count = 8192

    def tokens_for(self, count: int) -> int:
        """Return the token limit of an answer about `count` items."""
        further = self.max_tokens_per_further_item * max(count - 1, 0)
        return min(self.max_tokens + further, self.max_tokens_cap)


class Breaker(Policy):
    """Circuit breaker: open for `open_seconds` after `failures` in a row; then one probe decides."""

    failures: Count
    open_seconds: Seconds
    probe_seconds: Seconds
    """How long a probe may take before another is allowed."""


class Traces(Policy):
    """Which traces of calls are logged and stored."""

    enabled: bool
    store: bool
    level: Literal["DEBUG", "INFO"]
    preview_chars: Count
    keep_days: Count


class ExporterStanza(Remote):
    """An external system that receives traces."""

    public_key_env: str = ""
    secret_key_env: str = ""
    """Environment variables of the login's two keys."""
    headers_env: str = ""
    """Environment variable with headers: `name=value,name=value`, values percent-encoded."""
    timeout_seconds: Seconds = 10
    batch: Annotated[int, Field(gt=0, le=1000)] = 50
    """Traces per request."""
    batches_per_pass: Count = 20


class Recordings(Policy):
    """Whether answers are recorded or replayed, and where."""

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
    """The file `config/llm.yaml`."""

    purposes: dict[str, PurposeStanza]
    providers: dict[str, ProviderStanza]
    breaker: Breaker
    slot_wait_seconds: Annotated[Decimal, Field(ge=0, le=60)]
    """How long a call waits for a free slot of its provider."""
    traces: Traces
    exports: tuple[str, ...] = ()
    """Names of the `exporters` that receive every stored trace."""
    exporters: dict[str, ExporterStanza] = Field(default_factory=dict)
    recordings: Recordings

    @model_validator(mode="after")
    def _exports_are_known(self) -> Self:
        if unknown := sorted(set(self.exports) - self.exporters.keys()):
            known = ", ".join(sorted(self.exporters)) or "none"
            raise ValueError(f"exports: unknown exporter {', '.join(unknown)}; known: {known}")
        return self

    @property
    def prompted(self) -> list[str]:
        """The purposes that have a prompt of their own, in alphabetical order."""
        return sorted(name for name, stanza in self.purposes.items() if not stanza.prompt)

    def purpose(self, name: str) -> PurposeStanza:
        """Return the entry. Raises `Misconfigured` with the known names."""
        if name not in self.purposes:
            known = ", ".join(sorted(self.purposes))
            raise Misconfigured(f"config/llm.yaml: no purpose {name!r}; known: {known}")
        return self.purposes[name]

    def provider(self, name: str) -> ProviderStanza:
        """Return the entry. Raises `Misconfigured` with the known names."""
        if name not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise Misconfigured(f"config/llm.yaml: no provider {name!r}; known: {known}")
        return self.providers[name]


def policy() -> LlmPolicy:
    """Return the policy. Raises `Misconfigured` naming the wrong key."""
    return load("llm", LlmPolicy)


def recordings() -> Recordings:
    """Return the mode: from MAXXIT_LLM_RECORDINGS (`off`, `record`, `replay`, `mode:folder`), else the file."""
    given = os.environ.get("MAXXIT_LLM_RECORDINGS", "")
    if not given:
        return policy().recordings
    name, _, path = given.partition(":")
    for mode in MODES:
        if name == mode:
            return Recordings(mode=mode, path=path or policy().recordings.path)
    raise Misconfigured(f"MAXXIT_LLM_RECORDINGS={given!r}: set one of {', '.join(MODES)}, or mode:folder")


def switch(env: str, configured: bool) -> bool:
    """Return the environment variable's boolean (1/0, true/false, yes/no, on/off), else `configured`."""
    value = os.environ.get(env, "").strip().lower()
    if not value:
        return configured
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise Misconfigured(f"{env}={value!r}: set true or false")
