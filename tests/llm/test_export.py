"""Traces to Langfuse and OpenTelemetry: off by default, in the background, without effect on other work."""

import json
from base64 import b64decode
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm import export
from maxxit.llm.exporters import otlp
from maxxit.llm.models import LlmExport, LlmTrace
from maxxit.llm.policy import policy
from maxxit.pipeline.tasks import export_traces, tidy
from signals_app import shadow
from signals_app.models import ShadowReading
from tests import builders
from tests.llm import server as fake
from tests.llm.questions import NOW, answer, asked, post, reading
from tests.llm.server import ModelServer

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(minutes=1)
SECRET = "sk-lf-c4n4ry-0123456789abcdef"


@pytest.fixture
def collector(
    policy_dir: Path, second: ModelServer, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> ModelServer:
    """Both exporters in use, at a server of ours; the model answers."""
    values = yaml.safe_load((policy_dir / "llm.yaml").read_text())
    values["exports"] = ["langfuse", "otlp"]
    for stanza in values["exporters"].values():
        stanza |= {"batch": 2, "batches_per_pass": 2, "timeout_seconds": 10}
    (policy_dir / "llm.yaml").write_text(yaml.safe_dump(values))
    for name, value in {
        "LANGFUSE_BASE_URL": f"{second.url}/langfuse",
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
        "LANGFUSE_SECRET_KEY": SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": second.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a%20b, x-other=c",
    }.items():
        monkeypatch.setenv(name, value)
    server.otherwise = fake.says(answer(reading()))
    second.otherwise = fake.raw(b'{"partialSuccess": {}}')
    export.export_traces()  # from here on
    return second


def made(count: int) -> list[LlmTrace]:
    with clock.frozen(NOW):
        return [LlmTrace.objects.get(pk=asked(post(str(number))).trace_id) for number in range(count)]


def passed() -> dict[str, int]:
    with clock.frozen(LATER):
        return export.export_traces()


def spans(collector: ModelServer, number: int) -> list[dict[str, Any]]:
    (resource,) = collector.asked[number]["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "maxxit"}}]
    return list(scope["spans"])


def named(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_nothing_leaves_by_default(policy_dir: Path, server: ModelServer, second: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading()))
    made(1)
    assert passed() == {}
    assert (second.asked, LlmExport.objects.count()) == ([], 0)


def test_every_trace_goes_to_each_exporter_once_in_batches(collector: ModelServer) -> None:
    rows = made(3)
    assert passed() == {"langfuse": 3, "otlp": 3}
    assert passed() == {"langfuse": 0, "otlp": 0}
    assert [len(spans(collector, number)) for number in range(4)] == [2, 1, 2, 1]

    langfuse, otlp = spans(collector, 0)[0], spans(collector, 2)[0]
    assert otlp["traceId"] == langfuse["traceId"] == str(rows[0].correlation_id).replace("-", "")
    assert otlp["spanId"] == langfuse["spanId"] != spans(collector, 0)[1]["spanId"]
    took = int(otlp["endTimeUnixNano"]) - int(otlp["startTimeUnixNano"])
    assert took == rows[0].latency_ms * 1_000_000
    assert int(otlp["endTimeUnixNano"]) == int(NOW.timestamp()) * 10**9
    told = named(otlp)
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == ("first", "fake-1")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.request.temperature"]) == ("100", 0.3)
    assert "Long $BTC here" in told["gen_ai.input.messages"]
    assert "langfuse.observation.type" not in told

    told = named(langfuse)
    assert told["langfuse.observation.type"] == "generation"
    assert json.loads(told["langfuse.observation.usage_details"]) == {"input": 100, "output": 20}
    assert json.loads(told["langfuse.observation.cost_details"]) == {"total": 0.0014}
    assert "Long $BTC here" in told["langfuse.observation.input"]


def test_each_says_who_it_is(collector: ModelServer) -> None:
    made(1)
    passed()
    langfuse, otlp = collector.headers
    scheme, _, login = langfuse["authorization"].partition(" ")
    assert (scheme, b64decode(login).decode()) == ("Basic", f"pk-lf-1:{SECRET}")
    assert langfuse["x-langfuse-ingestion-version"] == "4"
    assert (otlp["x-team"], otlp["x-other"]) == ("a b", "c")
    assert "authorization" not in otlp


def test_an_error_is_an_error_there_too(collector: ModelServer, server: ModelServer) -> None:
    server.replies.append(fake.status(500))
    with clock.frozen(NOW), pytest.raises(Retryable):
        asked()  # the second provider of the chain is the collector, which is no model
    collector.asked.clear()
    assert passed() == {"langfuse": 2, "otlp": 2}
    first, second = spans(collector, 1)
    assert (first["status"]["code"], second["status"]["code"]) == (2, 2)
    assert "answered 500" in first["status"]["message"]
    assert named(spans(collector, 0)[0])["langfuse.observation.level"] == "ERROR"


@pytest.mark.parametrize(
    "away", [fake.status(503), fake.status(429), fake.status(401), fake.cut], ids=["503", "429", "401", "cut"]
)
def test_what_is_away_gets_it_later_and_no_reading_learns_of_it(
    collector: ModelServer, away: fake.Reply
) -> None:
    collector.otherwise = away
    made(3)
    assert passed() == {"langfuse": 0, "otlp": 0}
    one = LlmExport.objects.get(name="otlp")
    assert (one.sent, one.refused, one.last_error != "") == (0, 0, True)
    made(1)
    collector.otherwise = fake.raw(b"")
    assert passed() == {"langfuse": 4, "otlp": 4}
    assert LlmExport.objects.get(name="otlp").last_error == ""


def test_nobody_there(collector: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("LANGFUSE_SECRET_KEY")
    made(1)
    assert passed() == {"langfuse": 0, "otlp": 0}
    errors = dict(LlmExport.objects.values_list("name", "last_error"))
    assert "LANGFUSE_SECRET_KEY" in errors["langfuse"]
    assert "127.0.0.1:9" in errors["otlp"]


@pytest.mark.parametrize(
    "no",
    [fake.status(400, "bad"), fake.status(413), fake.raw(b'{"partialSuccess": {"rejectedSpans": "2"}}')],
    ids=["400", "413", "all refused"],
)
def test_what_is_refused_does_not_hold_up_the_rest(collector: ModelServer, no: fake.Reply) -> None:
    made(3)
    collector.replies.append(no)
    assert passed() == {"langfuse": 1, "otlp": 3}
    one = LlmExport.objects.get(name="langfuse")
    assert (one.sent, one.refused) == (1, 2)


def test_a_part_that_is_refused_is_counted(collector: ModelServer) -> None:
    made(2)
    collector.replies.append(fake.raw(b'{"partialSuccess": {"rejectedSpans": 1, "errorMessage": "old"}}'))
    assert passed() == {"langfuse": 1, "otlp": 2}
    assert LlmExport.objects.get(name="langfuse").refused == 1


@pytest.mark.parametrize(("number", "refused"), [("9" * 5000, 2), ("-1", 0), (None, 0), ([], 0)])
def test_a_number_of_refusals_that_is_none(number: Any, refused: int) -> None:
    body = json.dumps({"partialSuccess": {"rejectedSpans": number}}).encode()
    if refused:
        with pytest.raises(Rejected, match="all 2 spans"):
            otlp._refused(body, 2)
    else:
        assert otlp._refused(body, 2) == 0


def test_a_pass_ends(collector: ModelServer) -> None:
    made(5)
    assert passed() == {"langfuse": 4, "otlp": 4}
    assert passed() == {"langfuse": 1, "otlp": 1}


def test_no_secret_leaves(
    collector: ModelServer, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies.append(fake.says(f"the key is {SECRET}"))
    with clock.frozen(NOW):
        asked(post(text=f"Long $BTC, {SECRET}"))
    collector.replies.append(fake.status(400, f"bad login {SECRET}"))
    passed()
    assert len(collector.asked) > 1
    assert "c4n4ry" not in json.dumps(collector.asked)
    assert "c4n4ry" not in caplog.text
    assert not LlmExport.objects.filter(last_error__contains="c4n4ry").exists()


def test_an_exporter_that_nobody_knows_is_named(policy_dir: Path) -> None:
    values = yaml.safe_load((policy_dir / "llm.yaml").read_text())
    (policy_dir / "llm.yaml").write_text(yaml.safe_dump(values | {"exports": ["kafka"]}))
    with pytest.raises(Misconfigured, match=r"kafka.*langfuse, otlp"):
        policy()


def test_the_tasks_of_the_schedule_export_and_drop_old_traces(collector: ModelServer) -> None:
    with clock.frozen(NOW - timedelta(days=31)):
        asked()
    made(1)
    with clock.frozen(LATER):
        assert export_traces() == {"langfuse": 2, "otlp": 2}
        assert tidy() == 1
    assert LlmTrace.objects.count() == 1


# -- evaluations


@pytest.fixture
def labelled(tmp_path: Path) -> list[str]:
    """Two labelled posts: one that the rules read rightly, one that they miss."""
    rows = ["1,a,candidate,BTC,long", "2,a,candidate,LTC,long"]
    texts = {"1": f"I'm long $BTC, target 20k. {SECRET}", "2": "my view on litecoin has never been brighter"}
    (tmp_path / "may.csv").write_text("\n".join(["id,username,label,token,side", *rows]))
    lines = [{"id": key, "username": "a", "created_at": "", "text": text} for key, text in texts.items()]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ["--labelled", str(tmp_path / "may.csv"), "--posts", str(tmp_path / "posts.jsonl")]


def evaluated(*words: str) -> dict[str, Any]:
    with clock.frozen(NOW):
        call_command("evaluate-classifier", *words, "--json", stdout=(out := StringIO()))
    return dict(json.loads(out.getvalue()))


def test_an_evaluation_goes_to_langfuse_as_an_experiment(collector: ModelServer, labelled: list[str]) -> None:
    collector.otherwise = fake.langfuse
    assert evaluated(*labelled, "--export", "langfuse")["exported"] == 2
    ends = [path.removeprefix("/langfuse/api/public/") for path in collector.paths]
    assert ends == ["v2/datasets", *["dataset-items"] * 2, "otel/v1/traces", *["scores"] * 4], "batches of 2"
    dataset, first, second, traces, *sent = collector.asked
    scores: list[Any] = [*sent]  # a list each
    assert dataset["name"] == first["datasetName"] == "may"
    assert (first["expectedOutput"], second["input"]["post_id"]) == ({"BTC": "long"}, "2")
    told = named(traces["resourceSpans"][0]["scopeSpans"][0]["spans"][0])
    assert told["langfuse.experiment.name"] == f"rules rules-4 {NOW:%Y-%m-%dT%H:%M:%SZ}"
    assert json.loads(told["langfuse.observation.output"])["sides"] == {"BTC": "long"}
    values = {one["name"]: one["value"] for batch in scores for one in batch if "datasetRunId" in one}
    assert (values["precision"], values["recall"]) == (1.0, 0.5)
    assert [one["value"] for one in scores[0]] == [1.0, 0.0], "correct, not correct"
    assert SECRET.encode() not in b"".join(collector.received), "redacted"
    before = list(collector.received)
    evaluated(*labelled, "--export", "langfuse")
    assert collector.received[len(before) :] == before, "the same ids: sent twice it is stored once"


def test_an_evaluation_goes_to_a_collector_as_logs(collector: ModelServer, labelled: list[str]) -> None:
    told = evaluated(*labelled, "--export", "otlp", "--export-as", "spring")
    assert told["exported"] == 2
    assert set(collector.paths) == {"/v1/logs"}
    records = [
        one for body in collector.asked for one in body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]
    assert [named(one)["gen_ai.evaluation.score.label"] for one in records[:2]] == ["pass", "fail"]
    assert {named(one)["maxxit.dataset"] for one in records} == {"spring"}
    assert {named(one)["gen_ai.evaluation.name"] for one in records[2:]} >= {"precision", "recall", "f1"}


@pytest.mark.parametrize(
    ("exporter", "missing", "said"),
    [
        ("nobody", "", "known: langfuse, otlp"),
        ("langfuse", "LANGFUSE_SECRET_KEY", "LANGFUSE_SECRET_KEY"),
        ("otlp", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_an_export_that_cannot_work_is_refused_before_anything_is_read(
    exporter: str,
    missing: str,
    said: str,
    collector: ModelServer,
    labelled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if missing:
        monkeypatch.delenv(missing)
    with pytest.raises(CommandError, match=said) as refused:
        evaluated(*labelled, "--export", exporter)
    assert refused.value.returncode == 2
    assert collector.asked == []


def test_scores_that_langfuse_refuses_are_an_error(collector: ModelServer, labelled: list[str]) -> None:
    def refusing(handler: Any, body: Any) -> None:
        if handler.path.endswith("/scores"):
            handler.send(207, b'{"accepted": 0, "rejected": 2, "errors": [{"message": "no"}]}')
        else:
            fake.langfuse(handler, body)

    collector.otherwise = refusing
    with pytest.raises(CommandError, match="scores were refused"):
        evaluated(*labelled, "--export", "langfuse")


def test_a_comparison_is_exported_as_agreement(collector: ModelServer) -> None:
    author = builders.account()
    row = shadow.start("second", provider="rules", share=Decimal(1), by="olga")
    same, other = builders.candidate(author, {"BTC": "long"}), builders.candidate(author, {"ETH": "short"})
    for read in (same, other):
        ShadowReading.objects.create(
            comparison=row, post=read, sides={"BTC": "long"}, latency_ms=1, cost_usd=0, batch=1, at=NOW
        )
    call_command("comparisons", "show", "second", "--export", "otlp", "--json", stdout=(out := StringIO()))
    assert json.loads(out.getvalue())["exported"] == 2
    records = collector.asked[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    found = {named(one)["maxxit.item"]: named(one)["gen_ai.evaluation.score.value"] for one in records}
    assert found == {same.post_id: 1.0, other.post_id: 0.0}
