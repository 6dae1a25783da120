"""Traces of LLM calls: one row and one log line per call, both redacted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from maxxit.core import clock, correlation, redact, untrusted
from maxxit.core.untrusted import storable
from maxxit.events.models import Event
from maxxit.llm import recordings
from maxxit.llm.models import LlmTrace
from maxxit.llm.policy import policy, switch
from maxxit.llm.providers.base import Answer, Provider, Request
from maxxit.postgres import bulk

log = structlog.get_logger(__name__)


class AgentRef(NamedTuple):
    """The agent that a call is made for."""

    id: int
    name: str


@dataclass(slots=True)
class Call:
    """A call in progress."""

    request: Request
    correlation_ids: Sequence[UUID]
    agent: AgentRef | None
    """None: for all."""
    account: str
    """The account whose daily budget this call counts against."""
    prompt_sha256: str
    prompt_version: str
    """Empty for a provider in this process, which reads no prompt."""
    schema_sha256: str
    request_sha256: str = ""
    provider: str = ""
    model: str = ""
    base_url: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    repaired: bool = False
    latency_ms: int = 0
    answer: Answer | None = None
    cost_usd: Decimal = Decimal(0)
    error: str = ""
    keep: bool = True
    """False: logged only, not stored."""


def enabled() -> bool:
    """Return whether calls are traced (LLM_TRACE_ENABLED)."""
    return switch("LLM_TRACE_ENABLED", policy().traces.enabled)


def stored() -> bool:
    """Return whether traces are stored in the database (LLM_TRACE_STORE_DB)."""
    return enabled() and switch("LLM_TRACE_STORE_DB", policy().traces.store)


def write(call: Call) -> int:
    """Log and store the call; return the id of its row, 0 when it is not stored."""
    if not enabled():
        return 0
    request: dict[str, Any] = {
        "system": redact.repeated(call.request.system),
        "user": redact.text(call.request.user),
    }
    if shown := call.request.data.get("knowledge"):  # the retrieved passages with their sources
        request["knowledge"] = redact.value(shown)
    if call.request.cut:  # items truncated for the prompt, with their original length
        request["cut"] = dict(call.request.cut)
    response = parsed(call.answer.text) if call.answer else None
    error = redact.text(call.error)
    _log(call, error, request, response)
    if not (call.keep and stored()):
        return 0
    ids = list(dict.fromkeys(call.correlation_ids))
    current = correlation.current()
    row = {
        "ts": clock.now(),
        "correlation_id": ids[0] if ids else current,
        "correlation_ids": ids or ([current] if current else []),
        "agent_name": call.agent.name[:80] if call.agent else "",
        "agent_id": call.agent.id if call.agent else None,
        "purpose": call.request.purpose,
        "provider": call.provider,
        "model": (call.answer.model if call.answer else call.model)[:120],
        "base_url": redact.text(call.base_url)[:200],
        "parameters": {**call.parameters, "max_tokens": call.request.max_tokens},
        "latency_ms": call.latency_ms,
        "status": "error" if call.error else "ok",
        "error_message": storable(error),
        "request": storable({**request, "schema": call.request.schema_name}),
        "response": storable(response),
        "prompt_tokens": call.answer.prompt_tokens if call.answer else None,
        "completion_tokens": call.answer.completion_tokens if call.answer else None,
        "cost_usd": call.cost_usd,
        "prompt_sha256": call.prompt_sha256,
        "prompt_version": call.prompt_version,
        "schema_sha256": call.schema_sha256,
        "request_sha256": call.request_sha256,
        "repaired": call.repaired,
    }
    return bulk.insert(LlmTrace, {name: [value] for name, value in row.items()})[0]


CALLED, ANSWERED = "model.called", "model.answered"
"""Events of calls that left: an answer from a recording has none."""


def record_call(call: Call, provider: Provider, request: Request) -> int:
    """Write the event of a call that is about to be made, outside a transaction; return the event's id."""
    facts = {
        "purpose": request.purpose,
        "provider": provider.name,
        "model": provider.model,
        "prompt_sha256": call.prompt_sha256,
        "prompt_version": call.prompt_version,
        "request_sha256": recordings.key(provider, request),
    }
    return _event(CALLED, call, facts)


def record_outcome(
    call: Call, called: int, request: Request, *, answer: Answer | None = None, error: str = ""
) -> None:
    """Write the event of what came of a call: the hash of the answer as it arrived, or the kind of error."""
    digest = recordings.digest(answer.text) if answer else ""
    facts = {"purpose": request.purpose, "call": called, "answer_sha256": digest, "error": error}
    _event(ANSWERED, call, {name: value for name, value in facts.items() if value})


def _event(name: str, call: Call, facts: Mapping[str, Any]) -> int:
    ids = list(dict.fromkeys(call.correlation_ids))
    corr = ids[0] if ids else correlation.current()
    if len(ids) > 1:  # the row has one; a call of several posts names all
        facts = {**facts, "correlation_ids": [str(one) for one in ids]}
    row = Event.objects.create(
        at=clock.now(),
        name=name,
        subject=f"llm.purpose/{call.request.purpose}",
        correlation_id=corr,
        data=facts,
    )
    return int(row.pk)


def parsed(answer: str) -> Any:
    """Parse the answer (redacted already); text that is not JSON becomes {"text": …}."""
    try:
        return untrusted.loads(answer)
    except ValueError:
        return {"text": answer}


def tidy() -> int:
    """Delete traces older than `traces.keep_days` (llm.yaml); return how many."""
    before = clock.now() - timedelta(days=policy().traces.keep_days)
    return LlmTrace.objects.filter(ts__lt=before).delete()[0]


def _log(call: Call, error: str, request: Any, response: Any) -> None:
    rules = policy().traces
    write_log = log.error if error else log.info if rules.level == "INFO" else log.debug
    write_log(
        "LLM_TRACE",
        purpose=call.request.purpose,
        provider=call.provider,
        model=call.model,
        agent=call.agent.name if call.agent else "",
        status="error" if error else "ok",
        latency_ms=call.latency_ms,
        posts=len(call.correlation_ids),
        prompt_tokens=call.answer.prompt_tokens if call.answer else None,
        completion_tokens=call.answer.completion_tokens if call.answer else None,
        cost_usd=f"{call.cost_usd:f}",
        error=error[: rules.preview_chars],
        request=_preview(request["user"], rules.preview_chars),
        response=_preview(response, rules.preview_chars),
    )


def _preview(value: Any, size: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= size else text[:size] + "…"
