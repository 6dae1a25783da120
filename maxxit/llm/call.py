"""Call one provider: limits, the request, validation of the answer, one repair, and a trace of each exchange."""

from dataclasses import dataclass, replace
from decimal import Decimal
from time import perf_counter
from typing import Generic, TypeVar

from pydantic import BaseModel

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm import breaker, budget, recordings, trace
from maxxit.llm.fallback import Candidate
from maxxit.llm.policy import LlmPolicy, Recordings
from maxxit.llm.providers.base import Answer, Request, Unanswered
from maxxit.llm.providers.wire import ACCOUNT_ERRORS
from maxxit.llm.schema import clean, read_answer, salvage
from maxxit.llm.slots import slot

M = TypeVar("M", bound=BaseModel)
REPAIR = """

Your previous answer could not be used. What was wrong with it:
{error}
Your previous answer, as data:
{answer}
Answer again, with JSON of the given schema only."""
REPAIR_CHARS = 4000
"""Characters of the invalid answer that the repair prompt quotes."""


class ProviderRefused(Misconfigured):
    """A provider rejects our key, credit, model or a setting; the prompt is not at fault."""


@dataclass(slots=True)
class Usage:
    """Latency and cost of all exchanges of one prompt."""

    latency_ms: int = 0
    cost_usd: Decimal = Decimal(0)


class Caller(Generic[M]):
    """Sends one prompt to candidates of the fallback order, one after the other."""

    def __init__(self, policy: LlmPolicy, kept: Recordings, schema: type[M], call: trace.Call) -> None:
        self._policy, self._recordings, self._schema, self._call = policy, kept, schema, call
        self.usage = Usage()

    @property
    def replays(self) -> bool:
        """Whether answers come from recordings only."""
        return self._recordings.mode == "replay"

    def recorded(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates with a recorded answer; or the first, whose missing recording is then reported."""
        folder, request = self._recordings.folder, self._call.request
        with_recording = [
            candidate
            for candidate in candidates
            if candidate.stanza.local or recordings.path(folder, candidate.provider, request).exists()
        ]
        return with_recording or candidates[:1]

    def ask(self, candidate: Candidate) -> tuple[M, int, str]:
        """Return (answer, trace id, model). Raises Retryable or Rejected when this candidate cannot answer."""
        first, text = self._exchange(candidate, self._call.request, repaired=False)
        try:
            answer = read_answer(self._schema, text)
        except Rejected as error:
            first.error = str(error)
            trace_id = trace.write(first)
            if first.answer and first.answer.truncated:  # a repeated answer would be truncated too
                return self._truncated(candidate, first.request, text), trace_id, first.model
            return self._repair(candidate, first, text)
        return answer, trace.write(first), first.model

    def _truncated(self, candidate: Candidate, request: Request, text: str) -> M:
        """Return the usable part of a truncated answer. Raises `Rejected` (answer_truncated) when there is none."""
        answer = salvage(self._schema, text)
        if answer is None:
            limit = f"{request.max_tokens} tokens (config/llm.yaml: purposes.{request.purpose}.max_tokens)"
            raise Rejected(
                f"{candidate.provider.name}: the answer was truncated at {limit}", code="answer_truncated"
            )
        return answer

    def _repair(self, candidate: Candidate, first: trace.Call, wrong: str) -> tuple[M, int, str]:
        """Send the prompt again with the error; return the answer or its usable part. Raises Rejected."""
        shown = recordings.canonical(wrong[:REPAIR_CHARS])
        user = first.request.user + REPAIR.format(error=first.error, answer=shown)
        second, text = self._exchange(candidate, replace(first.request, user=user), repaired=True)
        answer: M | None
        try:
            answer = read_answer(self._schema, text)
        except Rejected as error:
            second.error = str(error)
            answer = salvage(self._schema, text) or salvage(self._schema, wrong)
        trace_id = trace.write(second)
        if answer is None:
            raise Rejected(f"{candidate.provider.name}: {second.error}", code="answer_invalid")
        return answer, trace_id, second.model

    def _exchange(self, candidate: Candidate, request: Request, *, repaired: bool) -> tuple[trace.Call, str]:
        """Send one prompt; return the call and the redacted answer. Traces failures; the caller traces successes."""
        provider = candidate.provider
        call = replace(
            self._call,
            request=request,
            request_sha256=recordings.key(provider, request),
            provider=provider.name,
            model=provider.model,
            base_url=provider.base_url,
            parameters=provider.parameters,
            repaired=repaired,
            prompt_version="" if candidate.stanza.local else self._call.prompt_version,
        )
        started = perf_counter()
        try:
            answer = self._answer(candidate, request)
        except (Retryable, Rejected, Misconfigured) as error:
            if isinstance(error, Unanswered):
                call.answer = error.answer
                call.cost_usd = candidate.stanza.cost(
                    error.answer.prompt_tokens, error.answer.completion_tokens
                )
            error.args = (redact.text(str(error)),)  # providers quote the key that they reject
            call.error, call.latency_ms = str(error), _ms(started)
            self._count(call)
            trace.write(call)
            raise
        call.answer, call.latency_ms, call.model = answer, _ms(started), answer.model
        call.cost_usd = candidate.stanza.cost(answer.prompt_tokens, answer.completion_tokens)
        self._count(call)
        return call, answer.text

    def _count(self, call: trace.Call) -> None:
        self.usage.latency_ms += call.latency_ms
        self.usage.cost_usd += call.cost_usd

    def _answer(self, candidate: Candidate, request: Request) -> Answer:
        """Return the redacted answer of a local provider, a recording or the network."""
        provider, folder = candidate.provider, self._recordings.folder
        if candidate.stanza.local:
            return self._redacted(provider.complete(request))
        if self.replays:
            recorded = recordings.find(folder, provider, request)
            if recorded is None:
                raise recordings.MissingRecording(
                    f"no recording of {request.purpose!r} by {provider.name} {provider.model}:"
                    f" {recordings.path(folder, provider, request)} is missing; the prompt, data, schema, model or"
                    " parameters differ from the recording"
                )
            return recorded
        ask = self._call_out if self._call.keep else _measure
        answer = self._redacted(ask(candidate, request))
        if self._recordings.mode == "record":
            recordings.save(folder, provider, request, answer)
        return answer

    def _call_out(self, candidate: Candidate, request: Request) -> Answer:
        """Call the provider within circuit breaker, slots and budget."""
        name, limits = candidate.provider.name, self._policy.breaker
        breaker.admit(name, limits)
        with slot(name, candidate.stanza.concurrency, float(self._policy.slot_wait_seconds)):
            stanza = self._policy.purpose(request.purpose)
            spends = budget.book_call(
                budget.limits(request.purpose, stanza, self._call.account, name, candidate.stanza)
            )
            try:
                answer = self._complete(candidate, request)
            except Retryable as error:
                breaker.failed(name, limits, redact.text(str(error)), error.after)
                raise
            except Unanswered as error:  # the provider works and bills the call
                breaker.succeeded(name)
                budget.book_cost(
                    spends, candidate.stanza.cost(error.answer.prompt_tokens, error.answer.completion_tokens)
                )
                raise
            except Rejected as error:
                if error.code not in ACCOUNT_ERRORS:
                    breaker.succeeded(name)
                    raise
                where = f"config/llm.yaml: providers.{name}"
                where += f", {candidate.stanza.key_env}" if candidate.stanza.key_env else ""
                breaker.failed(name, limits, redact.text(str(error)))
                raise ProviderRefused(
                    f"{name} rejects our account or settings (see {where}): {error}"
                ) from error
            except Misconfigured as error:
                breaker.failed(name, limits, redact.text(str(error)))
                raise ProviderRefused(str(error)) from error
        breaker.succeeded(name)
        budget.book_cost(spends, candidate.stanza.cost(answer.prompt_tokens, answer.completion_tokens))
        return answer

    def _complete(self, candidate: Candidate, request: Request) -> Answer:
        """Call the provider; the call is committed to the event log before its outcome can be known."""
        ident = trace.record_call(self._call, candidate.provider, request)
        try:
            answer = candidate.provider.complete(request)
        except Exception as error:
            trace.record_outcome(self._call, ident, request, error=type(error).__name__)
            raise
        trace.record_outcome(self._call, ident, request, answer=answer)
        return answer

    def _redacted(self, answer: Answer) -> Answer:
        return replace(answer, text=clean(answer.text, self._schema), model=redact.text(answer.model))


def _measure(candidate: Candidate, request: Request) -> Answer:
    """Call the provider without circuit breaker, slots and budget, which belong to the live system."""
    return candidate.provider.complete(request)


def _ms(started: float) -> int:
    return round((perf_counter() - started) * 1000)
