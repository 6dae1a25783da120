"""OpenTelemetry over HTTP: the official protobufs read what we send, the official exporters send to our sink."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ProtoExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto_json.collector.logs.v1.logs_service import ExportLogsServiceRequest as LogsFromJson
from opentelemetry.proto_json.collector.trace.v1.trace_service import ExportTraceServiceRequest as FromJson
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, Status, StatusCode

from tests.conformance.conftest import Fakes


def as_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """OTLP's JSON as the official message: ids are hexadecimal there, base64 in protobuf's own JSON.

    Raises for every name and every type that the message does not have.
    """
    read = json.loads(body)
    for resource in read["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in span.keys() & {"traceId", "spanId", "parentSpanId"}:
                    span[name] = b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(read, ExportTraceServiceRequest())


def spans(request: Any) -> Iterator[Any]:
    """All of them."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


@pytest.mark.parametrize("exporter", ["otlp", "langfuse"])
def test_what_we_send_is_the_official_message(fakes: Fakes, exporter: str) -> None:
    sent = fakes.traces_ours(name=exporter)
    assert (sent["taken"], sent["requests"]) == (2, 1)
    body = b64decode(sent["body"])
    message = as_protobuf(body)
    good, bad = spans(message)
    assert (len(good.trace_id), len(good.span_id), good.kind) == (16, 8, 3)
    assert good.end_time_unix_nano - good.start_time_unix_nano == 250_000_000
    assert (good.status.code, bad.status.code, bad.status.message) == (0, 2, "no")
    told = {one.key: one.value for one in good.attributes}
    assert told["gen_ai.usage.input_tokens"].int_value == 100
    assert told["gen_ai.request.temperature"].double_value == 0.3
    assert message.resource_spans[0].resource.attributes[0].key == "service.name"

    same = FromJson.from_json(body)  # OpenTelemetry's own reader of the JSON form
    assert [one.span_id for one in spans(same)] == [good.span_id, bad.span_id]


@pytest.mark.parametrize(
    ("exporter", "kind"), [(JsonExporter, "application/json"), (ProtoExporter, "application/x-protobuf")]
)
def test_the_official_exporter_is_taken_by_our_sink(
    fakes: Fakes, exporter: type[SpanExporter], kind: str
) -> None:
    fakes.collect(answer={"partialSuccess": {}})
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter(endpoint=f"{fakes.urls['models']}/v1/traces")))
    with provider.get_tracer("maxxit").start_as_current_span("chat", kind=SpanKind.CLIENT) as span:
        span.set_attributes({"text": "a", "count": 1, "ratio": 0.5, "list": ["a", "b"], "yes": True})
        span.set_status(Status(StatusCode.ERROR, "no"))
    provider.shutdown()
    got = fakes.collected()
    assert (got["requests"], got["headers"]["content-type"]) == (1, kind)
    body = b64decode(got["body"])
    message = ExportTraceServiceRequest.FromString(body) if kind.endswith("protobuf") else as_protobuf(body)
    (one,) = spans(message)
    assert (one.name, one.kind, one.status.code) == ("chat", 3, 2)


@pytest.mark.parametrize("partial", [{}, {"rejectedSpans": "2"}, {"rejectedSpans": 1, "errorMessage": "old"}])
def test_a_partial_success_is_an_official_answer(partial: dict[str, Any]) -> None:
    """What tests/llm/test_export.py makes the collector say."""
    json_format.ParseDict({"partialSuccess": partial}, ExportTraceServiceResponse())


def test_an_evaluation_is_official_log_records(fakes: Fakes) -> None:
    (request,) = fakes.experiment_ours(name="otlp")
    body = b64decode(request["body"])
    read = json.loads(body)
    for record in read["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        for name in record.keys() & {"traceId", "spanId"}:
            record[name] = b64encode(bytes.fromhex(record[name])).decode()
    message = json_format.ParseDict(read, ExportLogsServiceRequest())
    right, wrong, *figures = message.resource_logs[0].scope_logs[0].log_records
    assert request["path"] == "/v1/logs"
    assert (len(right.trace_id), len(right.span_id), right.severity_number) == (16, 8, 9)
    assert right.event_name == "gen_ai.evaluation.result"
    told = {one.key: one.value for one in right.attributes}
    assert told[gen_ai_attributes.GEN_AI_EVALUATION_NAME].string_value == "correct"
    assert told[gen_ai_attributes.GEN_AI_EVALUATION_SCORE_VALUE].double_value == 1.0
    assert told[gen_ai_attributes.GEN_AI_EVALUATION_EXPLANATION].string_value == "buys"
    told = {one.key: one.value for one in wrong.attributes}
    assert told[gen_ai_attributes.GEN_AI_EVALUATION_SCORE_LABEL].string_value == "fail"
    assert told[gen_ai_attributes.GEN_AI_EVALUATION_SCORE_VALUE].HasField("double_value")
    assert [one.body.string_value.split()[0] for one in figures] == ["precision", "recall"]
    same = LogsFromJson.from_json(body)  # OpenTelemetry's own reader of the JSON form
    assert len(same.resource_logs[0].scope_logs[0].log_records) == 4
    json_format.ParseDict({"partialSuccess": {"rejectedLogRecords": "1"}}, ExportLogsServiceResponse())
