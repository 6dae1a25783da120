"""Named versions of prompts: what is asked, what a trace names, activation and rollback."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from maxxit.core.errors import Misconfigured, Rejected
from maxxit.events.models import Event
from maxxit.llm import prompts, versions
from maxxit.llm.ask import ask
from maxxit.llm.models import LlmTrace, PromptActivation, PromptVersion
from signals_app.reading.provider import LexicalReader
from signals_app.reading.schema import Readings
from tests.llm import server as fake
from tests.llm.questions import answer, asked, reading
from tests.llm.server import ModelServer

pytestmark = pytest.mark.django_db

TEXT = "# system\nRead posts carefully.\n\n# user\nThe posts:\n\n{data}\n"
OTHER = TEXT.replace("carefully", "quickly")


def stored(name: str = "careful-2", text: str = TEXT) -> PromptVersion:
    return versions.create("classify", name, text, by="olga", note="shorter")


def activate(name: str) -> PromptActivation:
    return versions.activate("classify", name, by="olga", reason="measured")


def rolled_back() -> str:
    return versions.rollback("classify", by="olga", reason="worse").name


def test_the_file_is_asked_with_until_a_version_is_activated(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(answer(reading()))
    stored()
    asked()
    activate("careful-2")
    asked()
    systems = [call["messages"][0]["content"] for call in server.asked]
    assert systems[0].startswith("You read short posts")
    assert systems[1] == "Read posts carefully."
    file = prompts.of_file("classify")
    assert list(LlmTrace.objects.order_by("pk").values_list("prompt_version", "prompt_sha256")) == [
        (file.version, file.sha256),
        ("careful-2", PromptVersion.objects.get(name="careful-2").sha256),
    ]
    called = Event.objects.filter(name="model.called").order_by("-pk").first()
    assert called is not None
    assert called.data["prompt_version"] == "careful-2"


def test_a_measurement_asks_with_the_file_or_the_given_version_and_reads_no_table(
    policy_dir: Path, server: ModelServer, django_assert_num_queries: Any
) -> None:
    server.otherwise = fake.says(answer(reading()))
    stored()
    activate("careful-2")
    question: dict[str, Any] = {"posts": [], "tokens": {}}
    with django_assert_num_queries(0):
        ask(purpose="classify", data=question, schema=Readings, correlation_ids=[], keep=False)
        with prompts.using({"classify": prompts.parse(OTHER, "quick")}):
            ask(purpose="classify", data=question, schema=Readings, correlation_ids=[], keep=False)
    systems = [call["messages"][0]["content"] for call in server.asked]
    assert systems[0].startswith("You read short posts")
    assert systems[1] == "Read posts quickly."


def test_a_reader_in_this_process_names_no_prompt() -> None:
    question: dict[str, Any] = {"posts": [], "tokens": {}}
    ask(purpose="classify", data=question, schema=Readings, correlation_ids=[], provider=LexicalReader())
    assert LlmTrace.objects.get().prompt_version == ""


def test_rollbacks_go_back_step_by_step_to_the_file(policy_dir: Path) -> None:
    stored()
    stored("quick", OTHER)
    with pytest.raises(Rejected, match="nothing to return to"):
        rolled_back()
    activate("careful-2")
    activate("quick")
    activate("file")
    assert [rolled_back(), rolled_back(), rolled_back()] == ["quick", "careful-2", "file"]
    with pytest.raises(Rejected, match="nothing to return to"):
        rolled_back()
    activate("quick")
    assert rolled_back() == "file"


def test_each_change_is_an_event_with_who_and_why(policy_dir: Path) -> None:
    stored()
    activate("careful-2")
    rolled_back()
    data = list(Event.objects.filter(name="prompt.activated").order_by("pk").values_list("data", flat=True))
    shown = [(one["was"], one["version"], one["by"], one["reason"], one["rollback"]) for one in data]
    assert shown == [
        ("file", "careful-2", "olga", "measured", False),
        ("careful-2", "file", "olga", "worse", True),
    ]
    assert data[1]["sha256"] == prompts.of_file("classify").sha256


def test_the_file_of_an_earlier_release_can_be_activated(policy_dir: Path) -> None:
    stored()
    activate("careful-2")  # stores the text of the file
    before = prompts.of_file("classify")
    path = policy_dir / "prompts" / "classify.md"
    path.write_text(path.read_text().replace("When in doubt", "If in doubt"))
    prompts._read.cache_clear()
    activate("file")
    assert versions.in_use("classify").sha256 == prompts.of_file("classify").sha256 != before.sha256
    activate(before.version)
    assert versions.in_use("classify") == before
    lines = versions.diff(versions.find("classify", before.version), versions.find("classify", "file"))
    assert [line[:14] for line in lines if line[0] in "+-"] == ["-a direction wi", "+a direction wi"] or lines


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("file", TEXT, "cannot be used"),
        ("file-12345678", TEXT, "cannot be used"),
        ("Careful", TEXT, "cannot be used"),
        ("x" * 61, TEXT, "cannot be used"),
        ("quick", "# system\nno user section", "needs the sections"),
        ("quick", TEXT.replace("{data}", ""), "{data}"),
        ("quick", TEXT + "x" * versions.LONGEST_TEXT, "characters, the limit is"),
        ("careful-2", OTHER, "has a version 'careful-2' already"),
        ("quick", TEXT, "careful-2 has the same text"),
    ],
)
def test_a_version_that_cannot_be_used_is_refused(policy_dir: Path, name: str, text: str, why: str) -> None:
    stored()
    with pytest.raises(Rejected) as refused:
        stored(name, text)
    assert why in str(refused.value)
    assert PromptVersion.objects.count() == 1


def test_what_is_in_force_or_unknown_is_not_activated(policy_dir: Path) -> None:
    stored()
    for purpose, name, reason, why in (
        ("classify", "file", "measured", "asked with file already"),
        ("classify", "gone", "measured", "no version 'gone'"),
        ("dream", "file", "measured", "no purpose 'dream'"),
        ("classify", "careful-2", " ", "give the reason"),
    ):
        with pytest.raises(Rejected, match=why):
            versions.activate(purpose, name, by="olga", reason=reason)
    assert not PromptActivation.objects.exists()


def run(*words: str, fails: bool = False) -> Any:
    out = StringIO()
    if fails:
        with pytest.raises(SystemExit):
            call_command("prompts", *words, "--json", stdout=out)
    else:
        call_command("prompts", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_commands(policy_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "careful.md").write_text(TEXT)
    made = run("create", "classify", "careful-2", "--file", str(tmp_path / "careful.md"), "--by", "olga")
    assert (made["name"], made["by"]) == ("careful-2", "olga")
    changed = run("diff", "classify", "careful-2", fails=True)
    assert (changed["old"], changed["new"]) == ("file", "careful-2")
    assert "+Read posts carefully." in changed["diff"]
    assert run("diff", "classify", "careful-2", "careful-2")["diff"] == []
    assert run("activate", "classify", "careful-2", "--reason", "measured")["version"] == "careful-2"
    assert run("show", "classify")["text"] == TEXT
    rows = {(row["purpose"], row["name"]): row["active"] for row in run("list")}
    assert rows["classify", "careful-2"] is True
    assert rows["classify", "file"] is False
    assert rows["generate", "file"] is True
    assert run("rollback", "classify", "--reason", "worse")["version"] == "file"
    assert [row["version"] for row in run("history")] == ["file", "careful-2"]
    call_command("prompts", "list", stdout=(out := StringIO()))
    assert "careful-2" in out.getvalue()
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("prompts", "create", "classify", "x", "--file", str(tmp_path / "gone.md"))


def test_a_replay_asks_with_the_versions_that_it_is_given(policy_dir: Path) -> None:
    from maxxit.replay.management.commands import replay

    stored()
    given = replay._prompts(["classify=careful-2", "generate=file"])
    assert given["classify"] == prompts.parse(TEXT, "careful-2")
    assert given["generate"] == prompts.of_file("generate")
    with prompts.using(given):
        assert versions.in_use("classify").system == "Read posts carefully."
    with pytest.raises(Misconfigured, match="PURPOSE=VERSION"):
        replay._prompts(["careful-2"])
    with pytest.raises(Rejected, match="no version 'gone'"):
        replay._prompts(["classify=gone"])
