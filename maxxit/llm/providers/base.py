"""The interface of an LLM provider: one prompt in, the raw JSON text of one answer out.

An adapter implements one HTTP API only: retries, fallback, budgets and traces are in `maxxit.llm.ask`. It raises
`Retryable` when the provider is down, slow or answers in another format, `Rejected` when it rejects this request,
`Unanswered` when it works but gives no answer to it, and `Misconfigured` when it rejects a setting that the request
needs. The registry is in `maxxit.llm.providers`, the configuration in `config/llm.yaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from maxxit.core.errors import Rejected


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt. Only `system` and `user` are sent as text."""

    purpose: str
    """Names the prompt file and the config entry, for example `classify`."""
    system: str
    user: str
    data: Mapping[str, Any]
    """The data inside `user`, unrendered; only the offline provider `rules` reads it."""
    schema: dict[str, Any]
    """JSON schema of the answer."""
    schema_name: str
    max_tokens: int = 500
    """The longest answer, in tokens."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Items whose text was truncated for the prompt: id -> original length in characters."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a provider."""

    text: str
    """Raw JSON text; not validated."""
    model: str
    """The model that answered, as the provider reports it."""
    prompt_tokens: int | None
    completion_tokens: int | None
    truncated: bool = False
    """The model stopped at `max_tokens`; the text may be incomplete."""


class Unanswered(Rejected):
    """The provider works but gave no answer to this prompt: refused, filtered or empty.

    `answer` holds the model and the tokens, which are billed anyway.
    """

    def __init__(self, message: str, *, code: str, answer: Answer) -> None:
        super().__init__(message, code=code)
        self.answer = answer


class Provider(Protocol):
    """Answers prompts."""

    @property
    def name(self) -> str:
        """Its name in `config/llm.yaml`."""

    @property
    def model(self) -> str:
        """The requested model."""

    @property
    def base_url(self) -> str:
        """The API's base URL; empty for a provider inside this process."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters that affect the answer, such as the temperature; part of the recording's key."""

    def complete(self, request: Request) -> Answer:
        """Send one prompt and return the answer."""
