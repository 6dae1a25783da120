"""Call a language model: prompt in, validated and traced answer out. All LLM calls of the project go through `ask`.

    asked = ask(purpose="classify", data={…}, schema=Readings, correlation_ids=[…])
    asked.answer.readings

The providers of the purpose are tried in fallback order; each answer is validated against `schema` and, if invalid,
requested once more with the error. Call it outside a transaction: it waits for the network, and the trace of a
failure must survive the exception. Raises, after the trace is written:

    AccountSpent     the account that the prompt is about has used up its daily budget (a Retryable)
    NotCalled        every provider is paused, out of slots or out of budget (a Retryable)
    Retryable        every provider is down, paused or out of budget; the prompt is not at fault
    Rejected         a provider answered but no answer was usable, or it rejected this prompt
    ProviderRefused  every provider rejects our key, the model or a setting (a Misconfigured)
    Misconfigured    no provider is configured; a prompt file or a recording is missing
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel

from maxxit.core import redact
from maxxit.core.errors import Rejected, Retryable
from maxxit.llm import fallback, prompts, recordings, trace, versions
from maxxit.llm.budget import AccountSpent
from maxxit.llm.call import Caller, ProviderRefused
from maxxit.llm.errors import NotCalled, SlotsTaken
from maxxit.llm.fallback import Candidate
from maxxit.llm.policy import LlmPolicy, ProviderStanza, PurposeStanza, policy
from maxxit.llm.policy import recordings as configured_recordings
from maxxit.llm.providers.base import Provider, Request
from maxxit.llm.schema import wire_schema

M = TypeVar("M", bound=BaseModel)
Failure = Retryable | Rejected | ProviderRefused
"""The errors of a single provider, after which the next is tried."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[M]):
    """A validated answer with its provider, latency and cost."""

    answer: M
    trace_id: int
    """Id of the row in `llm_traces`; 0 when it is not stored."""
    provider: str
    model: str
    latency_ms: int
    """Of all exchanges, repairs included."""
    cost_usd: Decimal
    """Of all exchanges."""


def ask(
    *,
    purpose: str,
    data: Mapping[str, Any],
    schema: type[M],
    correlation_ids: Sequence[UUID],
    agent: trace.AgentRef | None = None,
    account: str = "",
    provider: Provider | None = None,
    keep: bool = True,
) -> Asked[M]:
    """Return the answer to the prompt of `purpose` about `data`.

    `provider` replaces the configured fallback order (tests). `account` is the author or agent that the prompt is
    about (by default the agent), which has its own daily budget. With `keep` False nothing is stored and no budget,
    slot or circuit breaker is used: for measurements, which need no database.
    """
    redact.know_environment()
    rules = policy()
    prompt = versions.in_use(purpose, stored=keep)
    request = _request(rules, purpose, prompt, data, schema)
    call = trace.Call(
        request=request,
        correlation_ids=correlation_ids,
        agent=agent,
        account=account or (f"{agent.name} ({agent.id})" if agent else ""),
        prompt_sha256=prompt.sha256,
        prompt_version=prompt.version,
        schema_sha256=recordings.digest(request.schema),
        keep=keep,
    )
    caller = Caller(rules, configured_recordings(), schema, call)
    failures: list[Failure] = []
    for candidate in _candidates(rules, purpose, provider, caller):
        try:
            answer, trace_id, model = caller.ask(candidate)
        except (Retryable, Rejected, ProviderRefused) as error:
            failures.append(error)
        else:
            usage = caller.usage
            return Asked(answer, trace_id, candidate.provider.name, model, usage.latency_ms, usage.cost_usd)
    raise _combined_error(purpose, failures)


def _candidates(
    rules: LlmPolicy, purpose: str, provider: Provider | None, caller: Caller[M]
) -> list[Candidate]:
    if provider is not None:
        unknown = ProviderStanza(adapter="given", local=not provider.base_url)
        return [Candidate(provider, rules.providers.get(provider.name, unknown))]
    candidates = fallback.candidates(rules, purpose, callable_only=not caller.replays)
    return caller.recorded(candidates) if caller.replays else candidates


def _request(
    rules: LlmPolicy, purpose: str, prompt: prompts.Prompt, data: Mapping[str, Any], schema: type[BaseModel]
) -> Request:
    stanza = rules.purpose(purpose)
    data, cut = _truncate_items(stanza, data)
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


def _truncate_items(
    stanza: PurposeStanza, data: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, int]]:
    """Truncate the items' texts to `max_item_chars`; return the data and the original length of each truncated item."""
    limit, cut = stanza.max_item_chars, dict[str, int]()
    items: list[Any] = []
    for item in data.get(stanza.items, ()) if stanza.items and limit else ():
        size = len(item.get("text", ""))
        if size > limit:
            cut[str(item.get(stanza.item_id, len(items)))] = size
            item = {**item, "text": f"{item['text'][:limit]} […cut: {limit} of {size} characters are shown]"}
        items.append(item)
    return ({**data, stanza.items: items}, cut) if cut else (data, cut)


def _combined_error(purpose: str, failures: list[Failure]) -> Failure:
    """Combine the failures into one error; an unusable answer outweighs an outage, since a retry would not help."""
    message = f"{purpose}: {'; '.join(str(error) for error in failures)}"
    rejected = [error for error in failures if isinstance(error, Rejected)]
    if rejected:
        return Rejected(message, code=rejected[-1].code)
    if all(isinstance(error, ProviderRefused) for error in failures):
        return ProviderRefused(message)
    waits = [error.after for error in failures if isinstance(error, Retryable) and error.after is not None]
    # The account's budget is the same at every provider.
    spent = any(isinstance(error, AccountSpent) for error in failures)
    kind = AccountSpent if spent else _kind(failures)
    return kind(message, after=min(waits) if waits else None)


def _kind(failures: list[Failure]) -> type[Retryable]:
    """Return the class of the combined error: `NotCalled` only where no provider was asked this prompt."""
    if not all(isinstance(error, NotCalled | ProviderRefused) for error in failures):
        return Retryable
    return SlotsTaken if any(isinstance(error, SlotsTaken) for error in failures) else NotCalled
