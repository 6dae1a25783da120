"""Prompt in, validated answer out, always traced. The one way in which the project talks to language models.

    asked = ask(purpose="classify", data={"posts": […], "tokens": {…}}, schema=Readings, correlation_ids=[…])
    asked.answer.readings

The providers of the purpose are tried in order; each answer is validated against `schema` and, if it fails, asked
for once more with the error shown. Call it outside a transaction: it waits for the network, and the trace of a
failure must outlive the exception. Raises, after the trace was written:

    AccountSpent     the account that the question is about has had its calls or its money of the day (a Retryable)
    Retryable        every provider is away, resting or out of budget; no fault of the question
    Rejected         some provider answered and no answer could be used, or it refused this very question
    ProviderRefused  every provider refuses our key, the model or a setting (a Misconfigured)
    Misconfigured    no provider can be asked; a prompt file is missing; a replay has no such recording
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from maxxit.core import redact
from maxxit.core.errors import Rejected, Retryable
from maxxit.llm import fallback, prompts, recordings, trace
from maxxit.llm.budget import AccountSpent
from maxxit.llm.call import Asker, ProviderRefused
from maxxit.llm.fallback import Link
from maxxit.llm.policy import LlmPolicy, ProviderStanza, PurposeStanza, policy
from maxxit.llm.policy import recordings as recordings_in_force
from maxxit.llm.providers.base import Provider, Request
from maxxit.llm.schema import wire_schema

M = TypeVar("M", bound=BaseModel)
Failure = Retryable | Rejected | ProviderRefused
"""How one provider can fail to answer."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[M]):
    """A validated answer and who gave it."""

    answer: M
    trace_id: int
    """Of the row in `llm_traces`; 0 when none is kept."""
    provider: str
    model: str
    latency_ms: int
    """Of every exchange that this answer took, a repair included."""
    cost_usd: Decimal
    """The same."""


def ask(
    *,
    purpose: str,
    data: Mapping[str, Any],
    schema: type[M],
    correlation_ids: Sequence[UUID],
    agent: str = "",
    account: str = "",
    provider: Provider | None = None,
    keep: bool = True,
) -> Asked[M]:
    """The answer to the question `purpose` about `data`. `provider` replaces the configured chain (tests).

    `account` is whom the question is about (an author, by default the agent): it has a daily number of calls of its
    own. With `keep` False nothing is stored and no budget, slot or circuit breaker of the live system is read: for
    measurements, which need no database.
    """
    redact.know_environment()
    rules = policy()
    prompt = prompts.read(purpose)
    request = _request(rules, purpose, prompt, data, schema)
    call = trace.Call(
        request=request,
        correlation_ids=correlation_ids,
        agent=agent,
        account=account or agent,
        prompt_sha256=prompt.sha256,
        schema_sha256=recordings.digest(request.schema),
        keep=keep,
    )
    asker = Asker(rules, recordings_in_force(), schema, call)
    failures: list[Failure] = []
    for link in _links(rules, purpose, provider, asker):
        try:
            answer, trace_id, model = asker.ask(link)
        except (Retryable, Rejected, ProviderRefused) as error:
            failures.append(error)
        else:
            return Asked(
                answer, trace_id, link.provider.name, model, asker.spent.latency_ms, asker.spent.cost_usd
            )
    raise _verdict(purpose, failures)


def _links(rules: LlmPolicy, purpose: str, provider: Provider | None, asker: Asker[M]) -> list[Link]:
    if provider is not None:
        unknown = ProviderStanza(adapter="given", local=not provider.base_url)
        return [Link(provider, rules.providers.get(provider.name, unknown))]
    links = fallback.links(rules, purpose, callable_only=not asker.replays)
    return asker.recorded(links) if asker.replays else links


def _request(
    rules: LlmPolicy, purpose: str, prompt: prompts.Prompt, data: Mapping[str, Any], schema: type[BaseModel]
) -> Request:
    stanza = rules.purpose(purpose)
    data, cut = _cut(stanza, data)
    items = data.get(stanza.items, ()) if stanza.items else ()
    return Request(
        purpose=purpose,
        system=prompt.system,
        user=prompt.render(data),
        data=data,
        cut=cut,
        schema=wire_schema(schema),
        schema_name=schema.__name__,
        max_tokens=stanza.tokens_for(len(items)),
    )


def _cut(stanza: PurposeStanza, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, int]]:
    """`data` with the texts of its items cut to `max_item_chars`, and the whole length of each that was cut."""
    limit, cut = stanza.max_item_chars, dict[str, int]()
    items: list[Any] = []
    for item in data.get(stanza.items, ()) if stanza.items and limit else ():
        size = len(item.get("text", ""))
        if size > limit:
            cut[str(item.get("post_id", len(items)))] = size
            item = {**item, "text": f"{item['text'][:limit]} […cut: {limit} of {size} characters are shown]"}
        items.append(item)
    return ({**data, stanza.items: items}, cut) if cut else (data, cut)


def _verdict(purpose: str, failures: list[Failure]) -> Failure:
    """One error for all. An answer that could not be used outweighs an absence: asking again would not help."""
    said = f"{purpose}: {'; '.join(str(error) for error in failures)}"
    rejected = [error for error in failures if isinstance(error, Rejected)]
    if rejected:
        return Rejected(said, code=rejected[-1].code)
    if all(isinstance(error, ProviderRefused) for error in failures):
        return ProviderRefused(said)
    waits = [error.after for error in failures if isinstance(error, Retryable) and error.after is not None]
    # The account's budget is the same at every provider.
    spent = any(isinstance(error, AccountSpent) for error in failures)
    return (AccountSpent if spent else Retryable)(said, after=min(waits) if waits else None)
