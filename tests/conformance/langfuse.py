"""Langfuse: its own client sends a generation to our sink, and ours is compared with it, name by name."""

import gzip
import json
from base64 import b64decode
from types import SimpleNamespace
from typing import Any

import pytest
from langfuse import Evaluation, Langfuse
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


# -- evaluations

RUN = "rules 2026-05-01T12:00:00Z"
TEXT = {"post_id": "1", "text": "Long $BTC here"}


def client_of(fakes: Fakes) -> Langfuse:
    return Langfuse(
        public_key=KEY,
        secret_key=KEY,
        base_url=fakes.urls["models"],
        tracer_provider=TracerProvider(),
        timeout=10,
    )


def sent(requests: list[dict[str, str]], end: str) -> list[bytes]:
    """The bodies of the requests to one path."""
    found = [one for one in requests if one["path"].endswith(end)]
    bodies = [(one["encoding"], b64decode(one["body"])) for one in found]
    return [gzip.decompress(body) if encoding == "gzip" else body for encoding, body in bodies]


def read(value: Any) -> Any:
    """An attribute as Python: JSON where it is."""
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def test_a_data_set_and_its_items_are_created_as_the_client_does(fakes: Fakes) -> None:
    ours = fakes.experiment_ours(name="langfuse")
    fakes.as_langfuse()
    client = client_of(fakes)
    dataset = client.create_dataset(name="may", description="labelled posts", metadata={"by": "maxxit"})
    body = json.loads(sent(ours, "/dataset-items")[0])
    item = client.create_dataset_item(
        dataset_name="may", input=TEXT, expected_output={"BTC": "long"}, id=body["id"]
    )
    theirs = fakes.arrived()
    assert (dataset.id, item.dataset_id) == ("dataset-may", "dataset-may"), (
        "the client reads the fake's answers"
    )
    for end in ("/v2/datasets", "/dataset-items"):
        given = json.loads(sent(theirs, end)[0])
        assert json.loads(sent(ours, end)[0]) == {name: one for name, one in given.items() if one is not None}
    assert len(sent(ours, "/dataset-items")) == 2


def test_an_experiment_has_the_attributes_and_scores_of_the_clients(fakes: Fakes) -> None:
    ours = fakes.experiment_ours(name="langfuse")
    body = json.loads(sent(ours, "/dataset-items")[0])
    fakes.as_langfuse()
    client = client_of(fakes)
    run_id = client._create_experiment_id(project_id="project-1", dataset_id="dataset-may", run_name=RUN)
    item = SimpleNamespace(
        id=body["id"], dataset_id="dataset-may", input=TEXT, expected_output={"BTC": "long"}, metadata=None
    )
    client.run_experiment(
        name="may", run_name=RUN, description="labelled posts", data=[item], experiment_id=run_id,
        task=lambda **_: {"sides": {"BTC": "long"}}, metadata={"reader": "rules"},
        evaluators=[lambda **_: Evaluation(name="correct", value=True, comment="buys", data_type="BOOLEAN")],
        run_evaluators=[lambda **_: Evaluation(name="precision", value=0.5, data_type="NUMERIC")],
    )  # fmt: skip
    client.flush()
    theirs = fakes.arrived()
    batches = [ExportTraceServiceRequest.FromString(body) for body in sent(theirs, "/v1/traces")]
    task = next(one for batch in batches for one in spans(batch) if one.name == "experiment-item-task")
    expected = told(task)
    right, _ = spans(as_protobuf(sent(ours, "/v1/traces")[0]))
    mine = told(right)
    root = "langfuse.experiment.item.root_observation_id"
    assert (mine[root], expected[root]) == (right.span_id.hex(), task.span_id.hex())
    named = {name for name in expected if name.startswith("langfuse.experiment.")} - {root}
    named |= {f"langfuse.{name}" for name in ("environment", "observation.type", "observation.input")}
    named.add("langfuse.observation.output")
    assert {name: read(mine[name]) for name in named} == {name: read(expected[name]) for name in named}
    assert mine.keys() <= KNOWN

    of_item, _, of_run, _ = json.loads(sent(ours, "/scores")[0])
    given = {one["name"]: one for batch in sent(theirs, "/scores") for one in json.loads(batch)}
    assert of_item["traceId"] == right.trace_id.hex()
    assert of_item["observationId"] == right.span_id.hex()
    own = {"id", "traceId", "observationId", "timestamp", "environment"}
    for score in (of_item, of_run):
        known = given[score["name"]]
        assert score.keys() <= known.keys() | {"environment"}
        assert {key: score[key] for key in score.keys() - own} == {
            key: known[key] for key in known.keys() - own
        }
