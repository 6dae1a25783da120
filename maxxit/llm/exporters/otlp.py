"""OpenTelemetry exporter (OTLP over HTTP with JSON): POST {base_url}/v1/traces, one span per call.

Results of evaluations go to {base_url}/v1/logs, as events `gen_ai.evaluation.result` of the semantic conventions: one
for each item and one for each figure of the run.

The trace id is the correlation id, so that all calls about a post are in one trace; the span id is a hash of the
row's id, so that a span sent twice is stored once. Attributes follow the semantic conventions for generative AI.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from maxxit.core import untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.http import client, fetch
from maxxit.llm.exporters.experiment import Experiment
from maxxit.llm.models import LlmTrace
from maxxit.llm.policy import ExporterStanza

CLIENT, ERROR = 3, 2
"""SPAN_KIND_CLIENT and STATUS_CODE_ERROR."""


class Otlp:
    """Exports to any OpenTelemetry collector."""

    path, logs_path = "/v1/traces", "/v1/logs"

    def __init__(self, stanza: ExporterStanza) -> None:
        self.stanza = stanza

    def headers(self) -> dict[str, str]:
        """Return the headers of the environment variable `headers_env`. Raises `Misconfigured` when malformed."""
        given = variable(self.stanza.headers_env)
        pairs = [pair.partition("=") for pair in given.split(",") if pair.strip()]
        if any(not name.strip() or not sign for name, sign, _ in pairs):
            raise Misconfigured(f"{self.stanza.headers_env}: expected name=value,name=value")
        return {name.strip(): unquote(value.strip()) for name, _, value in pairs}

    def more(self, trace: LlmTrace) -> dict[str, Any]:
        """Return attributes in addition to the common ones."""
        return {}

    def check(self) -> None:
        if not self.stanza.place:
            raise Misconfigured(
                f"no URL for the exporter {self.stanza.adapter}: set {self.stanza.base_url_env}"
            )
        self.headers()

    def send(self, traces: Sequence[LlmTrace]) -> int:
        return self.send_spans([span(trace, attributes(trace) | self.more(trace)) for trace in traces])

    def send_spans(self, spans: Sequence[Mapping[str, Any]]) -> int:
        """Send spans in one request; return how many were accepted."""
        scope = {"scope": {"name": "maxxit.llm"}, "spans": list(spans)}
        body = {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [scope]}]}
        return len(spans) - _refused(self.post(self.path, body), len(spans))

    def send_experiment(self, experiment: Experiment) -> int:
        records = evaluation_records(experiment)
        accepted = 0
        for batch in in_batches(records, self.stanza.batch):
            scope = {"scope": {"name": "maxxit.llm.evaluation"}, "logRecords": batch}
            body = {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [scope]}]}
            accepted += len(batch) - _refused(self.post(self.logs_path, body), len(batch), "LogRecords")
        return max(0, accepted - len(experiment.figures))

    def post(self, path: str, body: Any) -> bytes:
        """Send one request and return the answer's body."""
        self.check()
        with client(
            (self.stanza.place or "").rstrip("/"),
            headers=self.headers(),
            timeout=float(self.stanza.timeout_seconds),
        ) as http:
            return fetch(http, "POST", path, json=body, max_body=100_000).content


def span(trace: LlmTrace, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the span of one call."""
    span_json = {
        "traceId": trace.correlation_id.hex if trace.correlation_id else _hash(trace, 32),
        "spanId": _hash(trace, 16),
        "name": f"chat {trace.model}",
        "kind": CLIENT,
        "startTimeUnixNano": _nanoseconds(trace, begun=True),
        "endTimeUnixNano": _nanoseconds(trace, begun=False),
        "attributes": listed(named),
    }
    if trace.status == "error":
        span_json["status"] = {"code": ERROR, "message": trace.error_message[:1000]}
    return span_json


def attributes(trace: LlmTrace) -> dict[str, Any]:
    """Return the attributes common to all exporters; the row was redacted when it was written."""
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": trace.provider,
        "gen_ai.request.model": trace.model,
        "gen_ai.response.model": trace.model,
        "gen_ai.usage.input_tokens": trace.prompt_tokens,
        "gen_ai.usage.output_tokens": trace.completion_tokens,
        "gen_ai.system_instructions": messages("system", trace.request.get("system", "")),
        "gen_ai.input.messages": messages("user", trace.request.get("user", "")),
        "gen_ai.output.messages": messages("assistant", as_json(trace.response)),
        "maxxit.purpose": trace.purpose,
        "maxxit.agent": trace.agent_name,
        "maxxit.correlation_ids": [str(correlation_id) for correlation_id in trace.correlation_ids],
        "maxxit.cost_usd": f"{trace.cost_usd:f}",
        "maxxit.repaired": trace.repaired,
        "maxxit.prompt_sha256": trace.prompt_sha256,
        "maxxit.request_sha256": trace.request_sha256,
    }
    parameters = {f"gen_ai.request.{name}": value for name, value in trace.parameters.items()}
    return common | parameters


INFO = 9
"""SEVERITY_NUMBER_INFO."""
EVALUATION = "gen_ai.evaluation.result"


def evaluation_records(experiment: Experiment) -> list[dict[str, Any]]:
    """Return the log records of an evaluation: the items in order, then the figures of the run."""
    run = {
        "maxxit.dataset": experiment.dataset,
        "maxxit.experiment": experiment.run,
        **{f"maxxit.{name}": value for name, value in experiment.metadata.items()},
    }
    records = []
    for item in experiment.items:
        named = {
            "gen_ai.evaluation.name": experiment.score,
            "gen_ai.evaluation.score.value": float(item.right),
            "gen_ai.evaluation.score.label": "pass" if item.right else "fail",
            "gen_ai.evaluation.explanation": item.explanation,
            "maxxit.item": item.ident,
            "maxxit.expected": as_json(item.expected),
            "maxxit.output": as_json(item.output),
        }
        ids = {"traceId": experiment.key(item), "spanId": experiment.key(item, 16)}
        records.append(_record(experiment.at, item.text, named | run) | ids)
    for name, value in experiment.figures.items():
        named = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": value}
        records.append(_record(experiment.at, f"{name} of {experiment.run}", named | run))
    return records


def _record(at: datetime, body: str, named: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "timeUnixNano": nanoseconds(at),
        "observedTimeUnixNano": nanoseconds(at),
        "severityNumber": INFO,
        "severityText": "INFO",
        "eventName": EVALUATION,
        "body": {"stringValue": body},
        "attributes": listed(named),
    }


def in_batches(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yield the rows in lists of at most `size`."""
    for place in range(0, len(rows), size):
        yield list(rows[place : place + size])


def messages(role: str, content: str) -> str:
    """Return one message in the JSON of the semantic conventions."""
    return as_json([{"role": role, "parts": [{"type": "text", "content": content}]}])


def as_json(value: Any) -> str:
    """Serialize a structured attribute."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def listed(named: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Encode attributes as OTLP key-value pairs, without empty ones."""
    return [
        {"key": name, "value": _any(value)} for name, value in named.items() if value not in (None, "", [])
    ]


def _any(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {"stringValue": str(value)}


def _hash(trace: LlmTrace, digits: int) -> str:
    return sha256(f"llm_traces/{trace.pk}".encode()).hexdigest()[:digits]


def _nanoseconds(trace: LlmTrace, *, begun: bool) -> str:
    """Return start or end in Unix nanoseconds; the row is written when the call ends."""
    return nanoseconds(trace.ts - timedelta(milliseconds=trace.latency_ms if begun else 0))


def nanoseconds(at: datetime) -> str:
    """Return a moment in Unix nanoseconds, computed in integers."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return str((seconds * 1_000_000 + at.microsecond) * 1000)


def _refused(body: bytes, sent: int, what: str = "Spans") -> int:
    """Return how many of `what` (`Spans`, `LogRecords`) the collector rejected. Raises `Rejected` when it was all."""
    try:
        answer = untrusted.loads(body) if body.strip() else {}
    except ValueError:
        return 0  # 2xx without JSON: accepted
    partial = answer.get("partialSuccess") if isinstance(answer, dict) else None
    number = partial.get(f"rejected{what}") if isinstance(partial, dict) else None
    digits = str(number)[:20]  # an int64, which JSON encodes as a string
    refused = min(int(digits), sent) if digits.isdecimal() else 0
    if refused == sent:
        raise Rejected(f"all {sent} {what.lower()} were rejected: {str(partial)[:300]}", code="spans_refused")
    return refused


RESOURCE = {"attributes": listed({"service.name": "maxxit"})}
