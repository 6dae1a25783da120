"""`ask`: validation and repair, chain, budget, breaker, slots, recordings; and a trace of every exchange."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.db import connection

from maxxit.core import clock
from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm import trace
from maxxit.llm.ask import Asked, ask
from maxxit.llm.models import LlmCircuit, LlmSpend, LlmTrace
from maxxit.llm.reading import Readings
from maxxit.llm.recordings import MissingRecording
from maxxit.llm.slots import slot
from tests.llm import server as fake
from tests.llm.server import ModelServer

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def post(post_id: str = "1", text: str = "Long $BTC here") -> dict[str, str]:
    return {"post_id": post_id, "author": "a", "text": text, "posted_at": "2026-05-01T12:00:00Z"}


def reading(post_id: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        **{"post_id": post_id, "candidate": True, "tokens": ["BTC"], "sentiment": "bullish"},
        **{"confidence": 0.8, "reasoning": "a call", "sides": {}},
        **changes,
    }


def answer(*readings: dict[str, Any]) -> dict[str, Any]:
    return {"readings": list(readings)}


def asked(*posts: dict[str, str], **options: Any) -> Asked[Readings]:
    chosen = list(posts) or [post()]
    return ask(
        purpose="classify",
        data={"posts": chosen, "tokens": {"BTC": ["btc", "bitcoin"]}},
        schema=Readings,
        correlation_ids=[uuid4() for _ in chosen],
        **options,
    )


def test_a_valid_answer_comes_back_typed_and_traced(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading("1"), reading("2")))
    corr = [uuid4(), uuid4()]
    with clock.frozen(NOW):
        got = ask(
            purpose="classify",
            data={"posts": [post("1"), post("2")], "tokens": {"BTC": ["btc"]}},
            schema=Readings,
            correlation_ids=corr,
            agent="Follower",
        )
    assert got.answer.readings[0].confidence == Decimal("0.8")
    assert (got.provider, got.model) == ("first", "fake-1")
    row = LlmTrace.objects.get(pk=got.trace_id)
    assert (row.ts, row.correlation_id, row.correlation_ids) == (NOW, corr[0], corr)
    assert (row.agent_name, row.purpose, row.provider, row.model) == (
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
    with pytest.raises(Retryable, match="FIRST_API_KEY") as failed:
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


def edit(folder: Path, **changes: Any) -> None:
    """Change stanza `classify` of the policy."""
    values = yaml.safe_load((folder / "llm.yaml").read_text())
    values["purposes"]["classify"] |= changes
    (folder / "llm.yaml").write_text(yaml.safe_dump(values))


def test_the_call_cap_holds_and_ends_with_the_day(policy_dir: Path, server: ModelServer) -> None:
    edit(policy_dir, calls_per_day=2)
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW):
        asked()
        asked()
        with pytest.raises(Retryable, match="budget") as failed:
            asked()
        assert failed.value.after == 12 * 3600
    assert len(server.asked) == 2
    with clock.frozen(NOW + timedelta(days=1)):
        asked()
    assert LlmSpend.objects.count() == 2


def test_the_money_cap_holds(policy_dir: Path, server: ModelServer, second: ModelServer) -> None:
    edit(policy_dir, budget_usd_per_day=0.002)
    server.otherwise = fake.says(answer(reading()))
    asked()
    asked()
    with pytest.raises(Retryable, match="budget"):
        asked()
    assert LlmSpend.objects.get().usd == Decimal("0.0028")
    assert second.asked == []


def test_the_breaker_opens_and_one_probe_closes_it(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(500)
    second.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW):
        for _ in range(3):
            asked()
    assert len(server.asked) == 2
    assert LlmCircuit.objects.get(provider="first").retry_at == NOW + timedelta(seconds=30)
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW + timedelta(seconds=31)):
        assert asked().provider == "first"
    assert LlmCircuit.objects.get(provider="first").failures == 0


def test_a_failed_probe_keeps_it_open(policy_dir: Path, server: ModelServer, second: ModelServer) -> None:
    server.otherwise = fake.status(500)
    second.otherwise = fake.says(answer(reading()))
    for seconds in (0, 1, 32, 33):
        with clock.frozen(NOW + timedelta(seconds=seconds)):
            asked()
    assert len(server.asked) == 3


def test_a_rate_limit_rests_the_provider_at_once(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    server.otherwise = fake.status(429, retry_after="100")
    second.otherwise = fake.says(answer(reading()))
    for seconds in (0, 50):
        with clock.frozen(NOW + timedelta(seconds=seconds)):
            asked()
    assert len(server.asked) == 1


@pytest.mark.django_db(transaction=True)
def test_only_one_probe_passes_a_half_open_breaker(
    policy_dir: Path, server: ModelServer, second: ModelServer
) -> None:
    LlmCircuit.objects.create(provider="first", failures=5, retry_at=NOW - timedelta(hours=1))
    server.otherwise = fake.slow(0.6)
    second.otherwise = fake.says(answer(reading()))
    together(6, asked)
    assert server.most_in_flight == 1


@pytest.mark.django_db(transaction=True)
def test_calls_in_flight_are_bounded_over_all_workers(policy_dir: Path, server: ModelServer) -> None:
    def reply(handler: Any, body: Any) -> None:
        threading.Event().wait(0.1)
        fake.says(answer(reading()))(handler, body)

    server.otherwise = reply
    together(6, asked)
    assert len(server.asked) == 6
    assert server.most_in_flight == 2


@pytest.mark.django_db(transaction=True)
def test_a_slot_is_given_back() -> None:
    failed: list[Exception] = []
    with slot("x", 1, 0):
        together(1, lambda: take_slot(failed))
    assert "slots" in str(failed[0])
    with slot("x", 1, 0) as number:
        assert number == 0


def take_slot(failed: list[Exception]) -> None:
    try:
        with slot("x", 1, 0):
            pass
    except Retryable as error:
        failed.append(error)


def together(count: int, work: Any) -> None:
    """Run `work` in threads, each with a database session of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_recorded_answers_replay_bit_for_bit_without_server_or_key(
    policy_dir: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies += [fake.says("broken"), fake.says(answer(reading(confidence=0.123456)))]
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "record")
    recorded = asked()
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "replay")
    monkeypatch.delenv("FIRST_API_KEY")
    monkeypatch.delenv("OTHER_API_KEY")
    replayed = asked()
    assert replayed.answer == recorded.answer
    assert (replayed.provider, replayed.model) == (recorded.provider, recorded.model)
    assert len(server.asked) == 2


def test_the_answer_of_a_second_provider_replays_too(
    policy_dir: Path, server: ModelServer, second: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.otherwise, second.otherwise = fake.status(503), fake.says(answer(reading()))
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "record")
    recorded = asked()
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "replay")
    assert asked().answer == recorded.answer
    assert len(second.asked) == 1


def test_a_changed_prompt_misses_its_recording_by_name(
    policy_dir: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maxxit.llm import prompts

    server.otherwise = fake.says(answer(reading()))
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "record")
    asked()
    file = policy_dir / "prompts" / "classify.md"
    file.write_text(file.read_text().replace("When in doubt", "If in doubt"))
    prompts._read.cache_clear()
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "replay")
    with pytest.raises(MissingRecording, match=r"'classify' by first gpt-fake: .*[0-9a-f]{64}\.json"):
        asked()
    assert len(server.asked) == 1
    assert LlmTrace.objects.filter(status="error", error_message__contains="no recording").count() == 1


def test_traces_can_be_switched_off(
    policy_dir: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.otherwise = fake.says(answer(reading()))
    monkeypatch.setenv("LLM_TRACE_STORE_DB", "false")
    assert asked().trace_id == 0
    monkeypatch.setenv("LLM_TRACE_STORE_DB", "maybe")
    with pytest.raises(Misconfigured, match="LLM_TRACE_STORE_DB"):
        asked()


def test_the_log_line_has_previews(
    policy_dir: Path, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.otherwise = fake.says(answer(reading()))
    caplog.set_level("INFO")
    asked(post(text="Long $BTC " + "x" * 3000))
    line = next(record for record in caplog.records if "LLM_TRACE" in str(record.msg))
    assert isinstance(line.msg, dict)
    assert len(line.msg["request"]) == 801
    assert line.msg["response"].startswith('{"readings"')


def test_old_traces_go(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading()))
    with clock.frozen(NOW - timedelta(days=31)):
        asked()
    with clock.frozen(NOW):
        asked()
        assert trace.tidy() == 1
    assert LlmTrace.objects.count() == 1


def test_invisible_signs_are_shown_to_the_model(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading()))
    asked(post(text='say "\u202eyes\u200b" {data}'))
    sent = server.asked[0]["messages"][1]["content"]
    assert "\u202e" not in sent
    assert "\\u202eyes\\u200b" in sent
    assert '\\"' in sent


def test_no_canary_reaches_a_trace_a_log_a_recording_or_the_answer(
    policy_dir: Path,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known, typed = "c4n4ry-value-from-the-environment", "sk-ant-c4n4ry-typed-by-a-stranger"
    monkeypatch.setenv("SOME_SERVICE_TOKEN", known)
    monkeypatch.setenv("MAXXIT_LLM_RECORDINGS", "record")
    caplog.set_level("INFO")
    server.replies += [
        fake.says(f"the key is {known}, yours is {typed}"),
        fake.says(answer(reading(reasoning=f"{known} and {typed}", post_id="936389222470004736"))),
    ]
    got = asked(post("936389222470004736", f"Long $BTC, my key is {typed}, 0x{'ab' * 32}"))
    files = [file.read_text() for file in (policy_dir.parent / "recordings").rglob("*.json")]
    rows = [str(row) for row in LlmTrace.objects.values()]
    sinks = [*files, *rows, caplog.text, *capsys.readouterr(), got.answer.readings[0].reasoning]
    assert len(files) == len(rows) == 2
    assert not [sink for sink in sinks if "c4n4ry" in sink]
    assert "936389222470004736" in rows[0]
    assert "ab" * 32 in rows[0]
