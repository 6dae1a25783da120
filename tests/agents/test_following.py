"""Accounts are followed name by name: one bad name stops no other, and each gets its answer."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import following
from agents.following import add_accounts, check_names, clean_name, follow, name_problem, unfollow
from agents.models import Agent, CtAccount, Subscription
from agents.policy import CustomerPolicy, policy
from maxxit.core.errors import InvalidInput
from maxxit.events.models import Event
from tests import builders
from tests.trading.test_race import at_once

db = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "post_sources", lambda: ("x", "jsonl"))


def limits(monkeypatch: pytest.MonkeyPatch, **numbers: int) -> None:
    few = CustomerPolicy.model_validate(policy().model_dump() | numbers)
    monkeypatch.setattr(following, "policy", lambda: few)


def outcomes(answers: list[following.Answer]) -> list[str]:
    return [answer.outcome for answer in answers]


@given(st.text(max_size=20))
def test_a_name_of_x_is_up_to_fifteen_letters_digits_and_underscores(text: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    assert (not name_problem(text)) == (1 <= len(text) <= 15 and set(text) <= allowed)


@pytest.mark.parametrize("given", ["elon", "@elon", " @elon ", "elon\n"])
def test_the_at_sign_and_spaces_go(given: str) -> None:
    assert clean_name(given) == "elon"


@db
def test_each_name_gets_its_answer_and_bad_ones_stop_no_other() -> None:
    agent = builders.agent()
    builders.account(username="known")
    builders.account(username="off", is_active=False)
    builders.account(username="orphan", source="gone")
    builders.account(agent, username="Already")
    names = [
        "@known",
        "no spaces",
        "",
        "sixteen_letters_",
        "off",
        "orphan",
        "@ALREADY",
        "new_one",
        "known",
        "@@x",
    ]
    answers = follow(agent, names, by="alice")
    assert [answer.name for answer in answers] == names
    assert outcomes(answers) == [
        "followed", "invalid_name", "invalid_name", "invalid_name", "not_read", "not_read", "followed_already",
        "followed", "followed", "invalid_name",
    ]  # fmt: skip
    assert all(bool(answer.message) is not answer.ok for answer in answers)
    followed = set(agent.subscriptions.values_list("account__x_username", flat=True))
    assert followed == {"known", "Already", "new_one"}
    assert CtAccount.objects.get(x_username="new_one").source == "x"
    assert Event.objects.get(name="agent.followed").data == {"by": "alice", "accounts": ["known", "new_one"]}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://x.com/alice", "alice"),
        ("http://www.twitter.com/@alice/", "alice"),
        ("mobile.twitter.com/Alice_1?s=20", "Alice_1"),
        ("https://x.com/alice/status/1234567890123456789", "alice"),
        ("X.com/alice#top", "alice"),
        (" @alice ", "alice"),
    ],
)
def test_the_address_of_a_profile_is_its_name(written: str, name: str) -> None:
    assert clean_name(written) == name
    assert name_problem(clean_name(written)) == ""


@pytest.mark.parametrize(
    "written",
    [
        "https://x.com/", "https://x.com/i/lists/1", "https://x.com/home", "https://evil.com/alice",
        "x.com.evil.com/alice",
        "https://x.com@evil.com/alice", "https://x.com/alice/followers", "https://x.com/sixteen_letters_",
        "javascript:alice",
        "//x.com/alice",
    ],
)  # fmt: skip
def test_another_address_is_refused_plainly(written: str) -> None:
    assert "such as https://x.com/name" in name_problem(clean_name(written))


def test_a_long_name_is_refused_with_its_length() -> None:
    assert name_problem("sixteen_letters_").endswith(
        "1 to 15 letters, digits or underscores; this one has 16"
    )


@db
def test_a_name_in_another_case_is_the_same_account() -> None:
    agent = builders.agent()
    builders.account(username="Vitalik")
    assert outcomes(follow(agent, ["vitalik", "@VITALIK", "NEW", "new"], by="a")) == ["followed"] * 4
    assert CtAccount.objects.count() == agent.subscriptions.count() == 2


@db
def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    agent = builders.agent()
    [answer] = follow(agent, ["somebody"], "telegram", by="a")
    assert (answer.outcome, answer.message) == (
        "unknown_source",
        "no post source 'telegram'; known: x, jsonl",
    )
    assert not CtAccount.objects.exists()
    [answer] = follow(agent, ["somebody"], "jsonl", by="a")
    assert answer.account is not None
    assert answer.account.source == "jsonl"


@db
def test_without_a_source_the_only_one_is_taken_and_of_several_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "post_sources", lambda: ("files",))
    assert add_accounts(["one"], by="a")[0].account.source == "files"  # type: ignore[union-attr]
    monkeypatch.setattr(following, "post_sources", lambda: ("files", "more"))
    assert "name a post source; known: files, more" in add_accounts(["two"], by="a")[0].message
    monkeypatch.setattr(following, "post_sources", lambda: ())
    assert "an operator sets ingest.sources" in add_accounts(["three"], by="a")[0].message


@db
def test_an_agent_follows_so_many_accounts_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, max_followed_accounts=2)
    agent = builders.agent()
    assert outcomes(follow(agent, ["a", "b", "c", "a"], by="x")) == [
        "followed",
        "followed",
        "too_many",
        "followed",
    ]
    assert not CtAccount.objects.filter(x_username="c").exists()
    assert outcomes(unfollow(agent, ["a"], by="x") + follow(agent, ["c"], by="x")) == [
        "unfollowed",
        "followed",
    ]


@db
def test_a_request_has_so_many_names_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, max_names_per_request=2)
    for names, text in (([], "at least one"), (["a", "b", "c"], "3 names are given, 2")):
        for step in (lambda given: follow(builders.agent(), given, by="x"), check_names):
            with pytest.raises(InvalidInput, match=text):
                step(names)


@db
def test_to_check_changes_nothing() -> None:
    builders.account(username="known")
    assert outcomes(check_names(["known", "new", "not ok"])) == ["known", "unknown", "invalid_name"]
    assert CtAccount.objects.count() == 1
    assert not Event.objects.exists()


@db
def test_unfollowing_names_what_was_not_followed_and_keeps_the_account() -> None:
    agent = builders.agent()
    builders.account(agent, username="Gone")
    answers = unfollow(agent, ["@gone", "gone", "stranger"], by="alice")
    assert outcomes(answers) == ["unfollowed", "unfollowed", "not_followed"]
    assert not Subscription.objects.exists()
    assert CtAccount.objects.filter(x_username="Gone").exists()
    assert Event.objects.get(name="agent.unfollowed").data == {"by": "alice", "accounts": ["Gone"]}


@pytest.mark.django_db(transaction=True)
def test_racing_customers_make_one_account_and_no_agent_exceeds_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, max_followed_accounts=3)
    agents = [builders.agent() for _ in range(2)]

    def work(number: int) -> Any:
        return follow(
            Agent.objects.get(pk=agents[number % 2].pk), [f"Same{'eE'[number % 2]}", f"own{number}"], by="x"
        )

    results = at_once([partial(work, number) for number in range(8)])
    assert not [one for one in results if isinstance(one, BaseException)]
    assert CtAccount.objects.filter(x_username__iexact="samee").count() == 1
    for agent in agents:
        assert agent.subscriptions.count() == 3
