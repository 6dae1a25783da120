"""`ask`: validation and repair, the chain of providers, and a trace of every exchange."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm.ask import ask
from maxxit.llm.call import ProviderRefused
from maxxit.llm.models import LlmCircuit, LlmSpend, LlmTrace
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Provider
from maxxit.llm.trace import AgentRef
from signals_app.reading.schema import Readings
from tests.llm import server as fake
from tests.llm.questions import NOW, answer, asked, edit, post, reading
from tests.llm.server import ModelServer

pytestmark = pytest.mark.django_db


def test_a_valid_answer_comes_back_typed_and_traced(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading("1"), reading("2")))
    corr = [uuid4(), uuid4()]
    with clock.frozen(NOW):
        got = ask(
            purpose="classify",
            data={"posts": [post("1"), post("2")], "tokens": {"BTC": ["btc"]}},
            schema=Readings,
            correlation_ids=corr,
            agent=AgentRef(7, "Follower"),
        )
    assert got.answer.readings[0].confidence == Decimal("0.8")
    assert (got.provider, got.model) == ("first", "fake-1")
    row = LlmTrace.objects.get(pk=got.trace_id)
    assert (row.ts, row.correlation_id, row.correlation_ids) == (NOW, corr[0], corr)
    assert (row.agent_id, row.agent_name, row.purpose, row.provider, row.model) == (
        7,
        "Follower",
        "classify",
        "first",
        "fake-1",
    )
    assert (row.status, row.error_message, row.repaired) == ("ok", "", False)
    assert (row.prompt_tokens, row.completion_tokens) == (100, 20)
    assert row.cost_usd == Decimal("0.0014")
    assert row.parameters == {"temperature": 0.3, "max_tokens": 650}
    assert row.base_url == server.url
    assert len(row.prompt_sha256) == len(row.schema_sha256) == len(row.request_sha256) == 64
    assert "Long $BTC here" in row.request["user"]
    assert row.response is not None
    assert row.response["readings"][0]["tokens"] == ["BTC"]
    assert LlmTrace.objects.filter(correlation_ids__contains=[corr[1]]).count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "no json at all",
        '{"readings": [',
        answer(reading(confidence=7)),
        answer(reading(sentiment="moon")),
        answer(reading(extra=1)),
        answer(reading("1"), reading("1", sentiment="bearish")),
        {"other": 1},
    ],
)
def test_an_invalid_answer_is_repaired_once(wrong: Any, policy_dir: Path, server: ModelServer) -> None:
    server.replies += [fake.says(wrong), fake.says(answer(reading()))]
    got = asked()
    assert len(got.answer.readings) == 1
    first, second = LlmTrace.objects.order_by("pk")
    assert (first.status, first.repaired, second.status, second.repaired) == ("error", False, "ok", True)
    shown = server.asked[1]["messages"][1]["content"]
    assert first.error_message in shown
    assert "could not be used" in shown


def test_two_invalid_answers_go_to_the_next_provider(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.says("nonsense")
    second.otherwise = fake.says(answer(reading()))
    assert asked().provider == "other"
    assert len(server.asked) == 2


def test_invalid_everywhere_is_rejected_after_the_traces(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = second.otherwise = fake.says("nonsense")
    with pytest.raises(Rejected) as failed:
        asked()
    assert failed.value.code == "answer_invalid"
    assert LlmTrace.objects.filter(status="error").count() == 4


def test_what_is_valid_of_an_invalid_answer_is_kept(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(
        answer(reading("1"), reading("2", confidence="much"), reading("3"), reading("3"))
    )
    got = asked(post("1"), post("2"), post("3"))
    assert [one.post_id for one in got.answer.readings] == ["1"]


def test_signs_that_postgres_cannot_hold_do_no_harm(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(
        '{"readings": ['
        + str(reading(reasoning="R"))
        .replace("'", '"')
        .replace("True", "true")
        .replace('"R"', '"a\\u0000b\\ud800c"')
        + "]}"
    )
    got = asked()
    assert "\0" not in got.answer.readings[0].reasoning
    assert LlmTrace.objects.get(pk=got.trace_id).status == "ok"


def test_a_provider_that_is_away_is_passed_over(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(503)
    second.otherwise = fake.says(answer(reading()))
    assert asked().provider == "other"
    assert LlmTrace.objects.get(provider="first").status == "error"


def test_all_away_is_retryable_with_the_shortest_wait(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise, second.otherwise = fake.status(429, retry_after="9"), fake.status(429, retry_after="4")
    with pytest.raises(Retryable) as failed:
        asked()
    assert failed.value.after == 4
    assert LlmTrace.objects.count() == 2


def test_a_refused_key_is_no_fault_of_the_post_and_is_never_shown(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = second.otherwise = fake.status(401, "bad key sk-first-0123456789abcdef")
    with pytest.raises(ProviderRefused, match=r"providers\.first, FIRST_API_KEY") as failed:
        asked()
    assert "0123456789abcdef" not in str(failed.value)
    assert not LlmTrace.objects.filter(error_message__contains="0123456789abcdef").exists()


def test_a_missing_key_skips_the_provider(
    policy_dir: Path, monkeypatch: pytest.MonkeyPatch, server: ModelServer, second: ModelServer
) -> None:
    monkeypatch.delenv("FIRST_API_KEY")
    second.otherwise = fake.says(answer(reading()))
    assert asked().provider == "other"
    assert server.asked == []


def test_without_any_key_the_variables_are_named(policy_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRST_API_KEY")
    monkeypatch.delenv("OTHER_API_KEY")
    with pytest.raises(Misconfigured, match=r"FIRST_API_KEY.*OTHER_API_KEY"):
        asked()


def test_plain_config_never_falls_back_to_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", "")
    for name in ("PERPLEXITY_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Misconfigured) as failed:
        asked()
    for name in ("PERPLEXITY_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_BASE_URL"):
        assert name in str(failed.value)


@pytest.mark.parametrize("profile", ["demo", "replay"])
def test_profiles_that_declare_rules_read_offline(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAXXIT_PROFILE", profile)
    got = asked()
    assert got.provider == "rules"
    assert got.answer.readings[0].candidate


def test_invisible_signs_are_shown_to_the_model(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading()))
    asked(post(text='say "\u202eyes\u200b" {data}'))
    sent = server.asked[0]["messages"][1]["content"]
    assert "\u202e" not in sent
    assert "\\u202eyes\\u200b" in sent
    assert '\\"' in sent


UNANSWERED: dict[str, bytes] = {
    "no choices": b'{"choices": [], "usage": {"prompt_tokens": 1000}}',
    "null content": b'{"choices": [{"message": {"content": null}}], "usage": {"prompt_tokens": 1000}}',
    "filtered": b'{"choices": [{"finish_reason": "content_filter"}], "usage": {"prompt_tokens": 1000}}',
}


@pytest.mark.parametrize("body", UNANSWERED.values(), ids=[*UNANSWERED])
def test_no_answer_to_a_question_is_billed_and_is_no_failure_of_the_provider(
    body: bytes, policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = second.otherwise = fake.raw(body)
    for _ in range(3):
        with pytest.raises(Rejected) as failed:
            asked(provider=openai(server))
        assert failed.value.code in {"answer_empty", "answer_filtered"}
    assert not LlmCircuit.objects.filter(failures__gt=0).exists()
    assert len(server.asked) == 3
    assert LlmTrace.objects.filter(status="error", prompt_tokens=1000, cost_usd=Decimal("0.01")).count() == 3
    assert LlmSpend.objects.get(purpose="classify", account="").usd == Decimal("0.03")


def openai(server: ModelServer) -> Provider:
    return PROVIDERS.open(
        "openai", name="first", model="m", base_url=server.url, key="", temperature=0.3, timeout=1.0
    )


def test_an_answer_cut_at_its_limit_is_used_as_far_as_it_goes_and_not_asked_for_again(
    policy_dir: Path, server: ModelServer
) -> None:
    whole = fake.wrapped("/chat/completions", json.dumps(answer(reading("1"), reading("2"))))
    whole["choices"][0]["finish_reason"] = "length"
    server.otherwise = fake.raw(json.dumps(whole).encode())
    assert len(asked(post("1"), post("2")).answer.readings) == 2, "it was whole all the same"

    whole["choices"][0]["message"]["content"] = json.dumps(answer(reading("1"), reading("2")))[:-40]
    server.otherwise = fake.raw(json.dumps(whole).encode())
    with pytest.raises(Rejected) as failed:
        asked(post("1"), post("2"), provider=openai(server))
    assert failed.value.code == "answer_truncated"
    assert len(server.asked) == 2


def test_a_long_post_is_cut_with_a_mark_and_the_trace_says_so(policy_dir: Path, server: ModelServer) -> None:
    edit(policy_dir, max_item_chars=100)
    server.otherwise = fake.says(answer(reading("1"), reading("2")))
    got = asked(post("1", text="Long $BTC " + "x" * 500), post("2"))
    sent = server.asked[0]["messages"][1]["content"]
    assert "x" * 91 not in sent
    assert "cut: 100 of 510 characters are shown" in sent
    assert LlmTrace.objects.get(pk=got.trace_id).request["cut"] == {"1": 510}
    assert "cut" not in LlmTrace.objects.get(pk=asked(post("3")).trace_id).request
