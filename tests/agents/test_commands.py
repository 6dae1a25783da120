"""`manage.py agents`, `accounts`, `follow`, `unfollow`: what they print, answer with --json, refuse and exit with."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from agents import following
from agents.models import Agent
from maxxit.events.models import Event
from tests import builders

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def alice(monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setattr(following, "post_sources", lambda: ("x", "jsonl"))
    return User.objects.create_user("alice")


def said(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return out.getvalue()


def told(*words: str) -> Any:
    return json.loads(said(*words, "--json"))


def test_an_agent_is_created_followed_up_and_changed() -> None:
    made = told("agents", "create", "alice", "Majors", "--tokens", "btc", "ETH", "--sizing", "conservative")
    assert (made["owner"], made["status"], made["tokens"]) == ("alice", "DRAFT", ["BTC", "ETH"])
    assert [one["outcome"] for one in told("follow", "Majors", "@a", "b")] == ["followed", "followed"]
    assert [one["outcome"] for one in told("unfollow", str(made["id"]), "A")] == ["unfollowed"]
    assert told("agents", "show", "Majors")["follows"] == ["b"]
    assert "sizing_preset: conservative → moderate" in said(
        "agents", "edit", "Majors", "--sizing", "moderate"
    )
    assert told("agents", "activate", "Majors")["status"] == "ACTIVE"
    assert "already" in said("agents", "activate", "Majors")
    assert [row["name"] for row in told("agents", "list", "--owner", "alice")] == ["Majors"]
    assert "Majors" in said("agents", "list")


def test_preferences_and_weights_are_pairs() -> None:
    made = told("agents", "create", "alice", "P", "--preference", "risk_tolerance=80")
    assert (made["sizing_preset"], made["preferences"]["risk_tolerance"]) == ("aggressive", 80)
    assert told("agents", "edit", "P", "--weight", "tweet=70")["weights"]["tweet"] == 70
    for words in (
        ["--weight", "tweet"],
        ["--weight", "tweet=x"],
        ["--preference", "bold=1"],
        ["--weight", "x=1"],
    ):
        with pytest.raises(CommandError):
            said("agents", "edit", "P", *words)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["agents", "show", "99"], "no agent '99': `manage.py agents list` shows them"),
        (["agents", "create", "nobody", "x"], "no user 'nobody'"),
        (["agents", "create", "alice", "x", "--venue", "moon"], "venue: 'moon' is not in config/venues.yaml"),
        (["follow", "no such", "a"], "no agent 'no such'"),
    ],
)
def test_a_refusal_names_what_and_the_next_step(words: list[str], text: str) -> None:
    with pytest.raises(CommandError) as refused:
        said(*words)
    assert text in str(refused.value)
    assert refused.value.returncode == 1


def test_bad_names_are_answered_and_the_exit_code_tells(capsys: pytest.CaptureFixture[str]) -> None:
    agent = builders.agent()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("follow", str(agent.pk), "good", "not good", "--json", stdout=out)
    assert ended.value.code == 1
    assert [one["ok"] for one in json.loads(out.getvalue())] == [True, False]
    assert Agent.objects.get().subscriptions.count() == 1


def test_a_list_of_accounts_is_added(tmp_path: Path) -> None:
    users = tmp_path / "user_list.txt"
    users.write_text("# majors\n@one\n\ntwo  # of the desk\n")
    assert [one["name"] for one in told("accounts", "add", "three", "--file", str(users))] == [
        "three",
        "@one",
        "two",
    ]
    with pytest.raises(CommandError, match="No such file"):
        said("accounts", "add", "--file", str(tmp_path / "none.txt"))
    with pytest.raises(CommandError, match="name at least one account"):
        said("accounts", "check")


def test_accounts_are_listed_added_and_checked() -> None:
    assert [one["outcome"] for one in told("accounts", "check", "@new")] == ["unknown"]
    assert [one["outcome"] for one in told("accounts", "add", "@new", "new", "--by", "ops")] == [
        "added",
        "added",
    ]
    assert [one["outcome"] for one in told("accounts", "check", "NEW")] == ["known"]
    assert [row["name"] for row in told("accounts", "list", "--search", "@ne")] == ["new"]
    assert Event.objects.get(name="account.added").data == {"by": "ops", "source": "x"}
