"""Langfuse: its own client sends a generation to our sink, and ours is compared with it, name by name."""

import gzip
import json
from base64 import b64decode
from typing import Any

import pytest
from langfuse import Langfuse
from langfuse._client.attributes import LangfuseOtelSpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from tests.conformance.conftest import KEY, Fakes
from tests.conformance.otlp import as_protobuf, spans

KNOWN = {value for name, value in vars(LangfuseOtelSpanAttributes).items() if name.isupper()}


def told(span: Any) -> dict[str, Any]:
    """Langfuse's attributes of a span, as Python values."""
    return {
        one.key: [item.string_value for item in one.value.array_value.values] or one.value.string_value
        for one in span.attributes
        if one.key.startswith("langfuse.")
    }


@pytest.fixture
def theirs(fakes: Fakes) -> dict[str, Any]:
    """What arrives of a generation that failed, made by Langfuse's client."""
    fakes.collect(answer={})
    client = Langfuse(
        public_key=KEY,
        secret_key=KEY,
        base_url=fakes.urls["models"],
        tracer_provider=TracerProvider(),
        timeout=10,
    )
    generation = client.start_observation(
        name="chat fake-1",
        as_type="generation",
        input={"user": "Long $BTC here"},
        output={"readings": []},
        model="fake-1",
        model_parameters={"temperature": 0.3},
        usage_details={"input": 100, "output": 20},
        cost_details={"total": 0.0014},
        level="ERROR",
        status_message="no",
    )
    generation.end()
    client.flush()
    return dict(fakes.collected())


def test_our_spans_have_the_names_and_forms_of_the_clients(fakes: Fakes, theirs: dict[str, Any]) -> None:
    assert theirs["headers"]["content-encoding"] == "gzip"
    body = gzip.decompress(b64decode(theirs["body"]))
    (span,) = spans(ExportTraceServiceRequest.FromString(body))
    expected = told(span)
    sent = fakes.traces_ours(name="langfuse")
    _, failed = spans(as_protobuf(b64decode(sent["body"])))
    ours = told(failed)

    assert ours.keys() <= KNOWN
    shared = {f"langfuse.observation.{name}" for name in ("type", "level", "status_message", "model.name")}
    assert {name: ours[name] for name in shared} == {name: expected[name] for name in shared}
    written = {"input", "output", "model.parameters", "usage_details", "cost_details"}
    for name in (f"langfuse.observation.{one}" for one in written):
        assert isinstance(json.loads(ours[name]), type(json.loads(expected[name])))
    for name in ("model.parameters", "usage_details", "cost_details"):
        assert json.loads(ours[f"langfuse.observation.{name}"]) == json.loads(
            expected[f"langfuse.observation.{name}"]
        )


def test_we_say_who_we_are_as_the_client_does(fakes: Fakes, theirs: dict[str, Any]) -> None:
    ours = fakes.traces_ours(name="langfuse")
    for name in ("authorization", "x-langfuse-ingestion-version"):
        assert ours["headers"][name] == theirs["headers"][name]
