"""OpenTelemetry exporter (OTLP over HTTP with JSON): POST {base_url}/v1/traces, one span per call.

The trace id is the correlation id, so that all calls about a post are in one trace; the span id is a hash of the
row's id, so that a span sent twice is stored once. Attributes follow the semantic conventions for generative AI.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from maxxit.core import untrusted
from maxxit.core.config import variable
from maxxit.core.errors import Misconfigured, Rejected
from maxxit.core.http import client, fetch
from maxxit.llm.models import LlmTrace
from maxxit.llm.policy import ExporterStanza

CLIENT, ERROR = 3, 2
"""SPAN_KIND_CLIENT and STATUS_CODE_ERROR."""


class Otlp:
    """Exports to any OpenTelemetry collector."""

    path = "/v1/traces"

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

    def send(self, traces: Sequence[LlmTrace]) -> int:
        if not self.stanza.place:
            raise Misconfigured(
                f"no URL for the exporter {self.stanza.adapter}: set {self.stanza.base_url_env}"
            )
        body = {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [self._scope(traces)]}]}
        with client(
            self.stanza.place.rstrip("/"), headers=self.headers(), timeout=float(self.stanza.timeout_seconds)
        ) as http:
            response = fetch(http, "POST", self.path, json=body, max_body=100_000)
        return len(traces) - _refused(response.content, len(traces))

    def _scope(self, traces: Sequence[LlmTrace]) -> dict[str, Any]:
        return {
            "scope": {"name": "maxxit.llm"},
            "spans": [span(trace, attributes(trace) | self.more(trace)) for trace in traces],
        }


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
    """Return start or end in Unix nanoseconds, computed in integers; the row is written when the call ends."""
    at = trace.ts - timedelta(milliseconds=trace.latency_ms if begun else 0)
    seconds = int(at.replace(microsecond=0).timestamp())
    return str((seconds * 1_000_000 + at.microsecond) * 1000)


def _refused(body: bytes, sent: int) -> int:
    """Return how many spans the collector rejected. Raises `Rejected` when it rejected all."""
    try:
        answer = untrusted.loads(body) if body.strip() else {}
    except ValueError:
        return 0  # 2xx without JSON: accepted
    partial = answer.get("partialSuccess") if isinstance(answer, dict) else None
    number = partial.get("rejectedSpans") if isinstance(partial, dict) else None
    digits = str(number)[:20]  # an int64, which JSON encodes as a string
    refused = min(int(digits), sent) if digits.isdecimal() else 0
    if refused == sent:
        raise Rejected(f"all {sent} spans were rejected: {str(partial)[:300]}", code="spans_refused")
    return refused


RESOURCE = {"attributes": listed({"service.name": "maxxit"})}
