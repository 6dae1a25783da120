"""A provider: one prompt in, the raw JSON text of one answer out.

An adapter knows a wire shape and nothing else: no retries, no chain, no budget, no traces (`maxxit.llm.ask`).
It raises `Retryable` when the provider is away, slow, or answers what is not its own wire format, `Rejected` when the
provider said no to this very request, `Unanswered` when it works and gave no answer to it, and `Misconfigured` when it
refuses a setting that the request needs. Registry in `maxxit.llm.providers`, stanzas in `config/llm.yaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from maxxit.core.errors import Rejected


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Everything in it that a model may see stands in `system` and `user`."""

    purpose: str
    """Names the prompt file and the stanza, for example `classify`."""
    system: str
    user: str
    data: Mapping[str, Any]
    """The facts inside `user`, unrendered: only the offline provider `rules` reads them."""
    schema: dict[str, Any]
    """JSON schema of the answer."""
    schema_name: str
    max_tokens: int = 500
    """The longest answer, in tokens."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Items whose text was cut for the prompt: id -> the length of the whole text, characters."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    text: str
    """Raw JSON text; not validated."""
    model: str
    """The model that answered, by its own word."""
    prompt_tokens: int | None
    completion_tokens: int | None
    truncated: bool = False
    """The model stopped at `max_tokens`; the text may end in the middle."""


class Unanswered(Rejected):
    """The provider works and gave no answer to this question: it refused, filtered or left it empty.

    `answer` holds the model and the tokens, which are billed all the same.
    """

    def __init__(self, message: str, *, code: str, answer: Answer) -> None:
        super().__init__(message, code=code)
        self.answer = answer


class Provider(Protocol):
    """One place that answers prompts."""

    @property
    def name(self) -> str:
        """The name of its stanza."""

    @property
    def model(self) -> str:
        """The model that is asked for."""

    @property
    def base_url(self) -> str:
        """Where it is; empty for a provider inside this process."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What else shapes the answer, such as the temperature. Part of the recording's key."""

    def complete(self, request: Request) -> Answer:
        """Ask once."""
