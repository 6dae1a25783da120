"""What is kept of a call: recordings that replay, traces, log lines; and never a secret."""

from datetime import timedelta
from pathlib import Path

import pytest

from maxxit.core import clock
from maxxit.core.errors import Misconfigured
from maxxit.llm import trace
from maxxit.llm.models import LlmTrace
from maxxit.llm.recordings import MissingRecording
from tests.llm import server as fake
from tests.llm.questions import NOW, answer, asked, post, reading
from tests.llm.server import ModelServer

pytestmark = pytest.mark.django_db


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
