"""One provider, one question: limits, the call itself, validation, one repair, a trace for each exchange."""

from dataclasses import dataclass, replace
from decimal import Decimal
from time import perf_counter
from typing import Generic, TypeVar

from pydantic import BaseModel

from maxxit.core import redact
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm import breaker, budget, recordings, trace
from maxxit.llm.fallback import Link
from maxxit.llm.policy import LlmPolicy, Recordings
from maxxit.llm.providers.base import Answer, Request, Unanswered
from maxxit.llm.providers.wire import NOT_THE_QUESTION
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
"""How much of the wrong answer is shown again."""


class ProviderRefused(Misconfigured):
    """A provider does not know our key, our money, the model or a setting: the question is not to blame."""


@dataclass(slots=True)
class Spent:
    """What the exchanges of one question took."""

    latency_ms: int = 0
    cost_usd: Decimal = Decimal(0)


class Asker(Generic[M]):
    """Asks the links of a chain the same question, one after the other."""

    def __init__(self, rules: LlmPolicy, kept: Recordings, schema: type[M], call: trace.Call) -> None:
        self._rules, self._recordings, self._schema, self._call = rules, kept, schema, call
        self.spent = Spent()

    @property
    def replays(self) -> bool:
        """Whether answers come from the record only."""
        return self._recordings.mode == "replay"

    def recorded(self, links: list[Link]) -> list[Link]:
        """The links that were recorded answering this question; or the first, whose recording is then missed."""
        folder, request = self._recordings.folder, self._call.request
        found = [
            link
            for link in links
            if link.stanza.local or recordings.path(folder, link.provider, request).exists()
        ]
        return found or links[:1]

    def ask(self, link: Link) -> tuple[M, int, str]:
        """(answer, trace id, model). Raises Retryable or Rejected when this link cannot answer."""
        first, text = self._exchange(link, self._call.request, repaired=False)
        try:
            answer = read_answer(self._schema, text)
        except Rejected as error:
            first.error = str(error)
            trace_id = trace.write(first)
            if first.answer and first.answer.truncated:  # asked again it would end in the same place
                return self._truncated(link, first.request, text), trace_id, first.model
            return self._repair(link, first, text)
        return answer, trace.write(first), first.model

    def _truncated(self, link: Link, request: Request, text: str) -> M:
        """What can be used of an answer that ended too early. Raises `Rejected` (answer_truncated) when nothing can."""
        answer = salvage(self._schema, text)
        if answer is None:
            limit = f"{request.max_tokens} tokens (config/llm.yaml: purposes.{request.purpose}.max_tokens)"
            raise Rejected(f"{link.provider.name}: the answer ended at {limit}", code="answer_truncated")
        return answer

    def _repair(self, link: Link, first: trace.Call, wrong: str) -> tuple[M, int, str]:
        """Ask once more with the error shown; then take what can be used, or give up."""
        shown = recordings.canonical(wrong[:REPAIR_CHARS])
        user = first.request.user + REPAIR.format(error=first.error, answer=shown)
        second, text = self._exchange(link, replace(first.request, user=user), repaired=True)
        answer: M | None
        try:
            answer = read_answer(self._schema, text)
        except Rejected as error:
            second.error = str(error)
            answer = salvage(self._schema, text) or salvage(self._schema, wrong)
        trace_id = trace.write(second)
        if answer is None:
            raise Rejected(f"{link.provider.name}: {second.error}", code="answer_invalid")
        return answer, trace_id, second.model

    def _exchange(self, link: Link, request: Request, *, repaired: bool) -> tuple[trace.Call, str]:
        """One question and its redacted answer. A failure is traced here; a success by the caller, who judges it."""
        provider = link.provider
        call = replace(
            self._call,
            request=request,
            request_sha256=recordings.key(provider, request),
            provider=provider.name,
            model=provider.model,
            base_url=provider.base_url,
            parameters=provider.parameters,
            repaired=repaired,
        )
        started = perf_counter()
        try:
            answer = self._answer(link, request)
        except (Retryable, Rejected, Misconfigured) as error:
            if isinstance(error, Unanswered):
                call.answer = error.answer
                call.cost_usd = link.stanza.cost(error.answer.prompt_tokens, error.answer.completion_tokens)
            error.args = (redact.text(str(error)),)  # providers like to quote the key that they refuse
            call.error, call.latency_ms = str(error), _ms(started)
            self._count(call)
            trace.write(call)
            raise
        call.answer, call.latency_ms, call.model = answer, _ms(started), answer.model
        call.cost_usd = link.stanza.cost(answer.prompt_tokens, answer.completion_tokens)
        self._count(call)
        return call, answer.text

    def _count(self, call: trace.Call) -> None:
        self.spent.latency_ms += call.latency_ms
        self.spent.cost_usd += call.cost_usd

    def _answer(self, link: Link, request: Request) -> Answer:
        """From this process, from the record, or from the network; always redacted."""
        provider, folder = link.provider, self._recordings.folder
        if link.stanza.local:
            return self._redacted(provider.complete(request))
        if self.replays:
            found = recordings.find(folder, provider, request)
            if found is None:
                raise recordings.MissingRecording(
                    f"no recording of {request.purpose!r} by {provider.name} {provider.model}:"
                    f" {recordings.path(folder, provider, request)} is missing. The prompt, the data, the schema,"
                    " the model or its parameters are not those of the recording"
                )
            return found
        ask = self._call_out if self._call.keep else _measure
        answer = self._redacted(ask(link, request))
        if self._recordings.mode == "record":
            recordings.save(folder, provider, request, answer)
        return answer

    def _call_out(self, link: Link, request: Request) -> Answer:
        """Over the network, within breaker, slots and budget."""
        name, limits = link.provider.name, self._rules.breaker
        breaker.admit(name, limits)
        with slot(name, link.stanza.concurrency, float(self._rules.slot_wait_seconds)):
            stanza = self._rules.purpose(request.purpose)
            spends = budget.book_call(
                budget.limits(request.purpose, stanza, self._call.account, name, link.stanza)
            )
            try:
                answer = link.provider.complete(request)
            except Retryable as error:
                breaker.failed(name, limits, redact.text(str(error)), error.after)
                raise
            except Unanswered as error:  # the provider works, and bills
                breaker.succeeded(name)
                budget.book_cost(
                    spends, link.stanza.cost(error.answer.prompt_tokens, error.answer.completion_tokens)
                )
                raise
            except Rejected as error:
                if error.code not in NOT_THE_QUESTION:
                    breaker.succeeded(name)
                    raise
                where = f"config/llm.yaml: providers.{name}"
                where += f", {link.stanza.key_env}" if link.stanza.key_env else ""
                breaker.failed(name, limits, redact.text(str(error)))
                raise ProviderRefused(f"{name} does not serve us (see {where}): {error}") from error
            except Misconfigured as error:
                breaker.failed(name, limits, redact.text(str(error)))
                raise ProviderRefused(str(error)) from error
        breaker.succeeded(name)
        budget.book_cost(spends, link.stanza.cost(answer.prompt_tokens, answer.completion_tokens))
        return answer

    def _redacted(self, answer: Answer) -> Answer:
        return replace(answer, text=clean(answer.text, self._schema), model=redact.text(answer.model))


def _measure(link: Link, request: Request) -> Answer:
    """Over the network, without breaker, slots and budget: those belong to the live system."""
    return link.provider.complete(request)


def _ms(started: float) -> int:
    return round((perf_counter() - started) * 1000)
