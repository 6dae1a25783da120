"""The page Prompts: compare, activate and roll back versions, with reason and record."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from maxxit.access import groups
from maxxit.llm import versions
from maxxit.llm.models import LlmTrace, PromptActivation, PromptVersion
from maxxit.reports.trades import trace, why
from tests import builders
from tests.surface.conftest import World

TEXT = "# system\nRead posts carefully.\n\n# user\nThe posts:\n\n{data}\n"


def staff(world: World, group: str) -> Client:
    person = User.objects.create_user(group, is_staff=True)
    person.groups.add(Group.objects.get(name=group))
    return world.logged_in(person)


@pytest.fixture
def operator(world: World) -> Client:
    return staff(world, groups.OPERATORS)


def send(browser: Client, do: str, **values: str) -> Any:
    answer = browser.post(
        reverse("operator-prompts"), {"do": do, "purpose": "classify"} | values, follow=True
    )
    return answer.status_code, answer.content.decode()


def test_a_version_is_stored_compared_activated_and_rolled_back(operator: Client) -> None:
    code, page = send(operator, "create", name="careful-2", note="shorter", text=TEXT.replace("\n", "\r\n"))
    assert (code, "classify careful-2 is stored" in page) == (200, True)
    compared = operator.get(
        reverse("operator-prompts"), {"purpose": "classify", "version": "careful-2"}
    ).content.decode()
    assert "+Read posts carefully." in compared
    assert "Activate careful-2" in compared
    code, page = send(operator, "activate", name="careful-2", reason="measured on the set of May")
    assert "classify is asked with careful-2 from the next call on" in page
    assert versions.in_use("classify").system == "Read posts carefully."
    assert "Roll classify back to file" in page
    code, page = send(operator, "rollback", reason="half the calls")
    assert versions.active("classify") == "file"
    assert [one.by for one in PromptActivation.objects.all()] == ["operators", "operators"]
    assert LogEntry.objects.count() == 3


@pytest.mark.parametrize(
    ("do", "values", "why_not"),
    [
        ("create", {"name": "Bad Name", "text": TEXT}, "cannot be used"),
        ("create", {"name": "short", "text": "no sections"}, "needs the sections"),
        ("activate", {"name": "gone", "reason": "measured"}, "no version"),
        ("activate", {"name": "file", "reason": ""}, "reason: This field is required."),
        ("rollback", {"reason": "because"}, "nothing to return to"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_changes(
    operator: Client, do: str, values: dict[str, str], why_not: str
) -> None:
    code, page = send(operator, do, **values)
    assert code == 422
    assert why_not in page
    if "text" in values:
        assert values["text"].splitlines()[0] in page  # what was typed stays
    assert not PromptActivation.objects.exists()
    assert not PromptVersion.objects.exists()


def test_an_address_with_an_unknown_version_says_so(operator: Client) -> None:
    answer = operator.get(reverse("operator-prompts"), {"purpose": "classify", "version": "gone"})
    assert answer.status_code == 422
    assert "no version" in answer.content.decode()


def test_support_compares_and_changes_nothing(world: World) -> None:
    versions.create("classify", "careful-2", TEXT, by="olga")
    support = staff(world, groups.SUPPORT)
    page = support.get(
        reverse("operator-prompts"), {"purpose": "classify", "version": "careful-2"}
    ).content.decode()
    assert "+Read posts carefully." in page
    assert "Activate careful-2" not in page
    assert send(support, "activate", name="careful-2", reason="measured")[0] == 403
    assert versions.active("classify") == "file"


def test_trace_and_why_name_the_version(world: World) -> None:
    post = builders.post(
        world.of_alice.post.account, state="classified", is_signal_candidate=False, confidence="0.2",
        outcome="not_candidate",
    )  # fmt: skip
    LlmTrace.objects.create(
        ts=post.posted_at, purpose="classify", provider="openai", model="gpt", latency_ms=5, status="ok",
        prompt_sha256="a" * 64, prompt_version="careful-2", schema_sha256="", request_sha256="",
        correlation_id=post.correlation_id, correlation_ids=[post.correlation_id],
    )  # fmt: skip
    [stop] = why.why("post", str(post.pk))
    assert stop.read_by == "openai gpt with the prompt careful-2"
    found = trace.follow(post.correlation_id)
    assert any(
        "classify by openai gpt with the prompt careful-2" in step.text for step in trace.timeline(found)
    )
