"""A POST with an idempotency key takes effect once: repeated, at once in threads, or with another body."""

import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from agents.models import Agent
from maxxit.access import idempotency
from maxxit.access.auth import create_key
from maxxit.access.models import ApiKey, IdempotentRequest
from maxxit.core import clock
from maxxit.core.errors import Unknown
from tests import builders
from tests.trading.test_race import at_once

KEY = "6f1c7a52-8f0e-4b3a-9a51-2f7f3f8f6b11"


def headers(owner: User, *scopes: str) -> dict[str, str]:
    return {"x-api-key": create_key(owner, "test", scopes or ("read", "trade", "keys"), by="test")}


def post(path: str, body: Any, of: dict[str, str], key: str | None = KEY) -> Any:
    extra = {} if key is None else {"idempotency-key": key}
    return Client().post(f"/api/{path}", body, content_type="application/json", headers={**of, **extra})


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


def test_a_repeated_request_takes_effect_once_and_gets_the_same_answer(alice: User) -> None:
    of = headers(alice)
    first, second = (post("agents", {"name": "Majors"}, of) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert (first.headers.get("Idempotency-Replayed"), second.headers["Idempotency-Replayed"]) == (
        None,
        "true",
    )
    assert Agent.objects.count() == 1


def test_without_a_key_each_request_takes_effect(alice: User) -> None:
    of = headers(alice)
    for name in ("a", "b"):
        assert post("agents", {"name": name}, of, None).status_code == 201
    assert not IdempotentRequest.objects.exists()


def test_the_same_key_with_another_body_or_path_is_a_conflict(alice: User) -> None:
    of = headers(alice)
    post("agents", {"name": "Majors"}, of)
    for path, body in (("agents", {"name": "Other"}), ("deployments", {"agent_id": 1})):
        answer = post(path, body, of)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert Agent.objects.count() == 1


def test_a_key_belongs_to_its_user(alice: User) -> None:
    bob = User.objects.create_user("bob")
    answers = [post("agents", {"name": f"Majors of {one}"}, headers(one)) for one in (alice, bob)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert Agent.objects.count() == 2


def test_a_replay_needs_the_scope_too(alice: User) -> None:
    post("agents", {"name": "Majors"}, headers(alice))
    assert post("agents", {"name": "Majors"}, headers(alice, "read")).status_code == 403


def test_a_refusal_leaves_the_key_free(alice: User) -> None:
    of = headers(alice)
    assert post("agents", {"name": " "}, of).status_code == 422
    assert post("agents", {"name": "Majors"}, of).status_code == 201


def test_the_answer_is_kept_for_a_day(alice: User) -> None:
    of = headers(alice)
    post("agents", {"name": "Majors"}, of)
    IdempotentRequest.objects.update(created_at=clock.now() - timedelta(hours=24, seconds=1))
    assert post("agents", {"name": "Other"}, of).status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 201])
def test_a_malformed_key_is_refused(alice: User, key: str) -> None:
    answer = post("agents", {"name": "Majors"}, headers(alice), key)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["message"]


def test_a_key_of_the_api_is_never_stored_with_the_answer(alice: User) -> None:
    of = headers(alice)
    first = post("keys", {"name": "bot"}, of).json()
    second = post("keys", {"name": "bot"}, of).json()
    assert first["key"].startswith("mxk_")
    assert second == first | {"key": ""}
    assert first["key"] not in IdempotentRequest.objects.get().body
    assert ApiKey.objects.filter(name="bot").count() == 1


@pytest.mark.parametrize("error", [RuntimeError("the process died"), Unknown("the venue did not answer")])
def test_an_unknown_outcome_keeps_the_key_in_use(
    alice: User, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    of = headers(alice)
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr("maxxit.api.customer.create_agent", fail)
        browser = Client(raise_request_exception=False)
        given = {**of, "idempotency-key": KEY}
        assert (
            browser.post("/api/agents", {"name": "A"}, "application/json", headers=given).status_code >= 500
        )
    answer = post("agents", {"name": "A"}, of)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")


def test_nobody_waits_for_a_request_that_died_long_ago(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes no more; a young claim is waited for."""
    of = headers(alice)
    waits: list[float] = []
    post("agents", {"name": "A"}, of)
    at = clock.now() - timedelta(seconds=idempotency.WAIT_SECONDS)
    IdempotentRequest.objects.update(status=None, created_at=at)
    monkeypatch.setattr(idempotency.time, "sleep", waits.append)
    answer = post("agents", {"name": "A"}, of)
    assert (answer.status_code, answer.json()["code"], waits) == (409, "idempotency_key_in_use", [])


@pytest.mark.django_db(transaction=True)
def test_requests_at_once_take_effect_once_and_all_get_its_answer() -> None:
    alice = User.objects.create_user("alice")
    of = headers(alice)
    agent = builders.agent(owner=alice)
    answers = at_once(
        [partial(post, "deployments", {"agent_id": agent.pk, "capital": "500"}, of) for _ in range(8)]
    )
    assert {one.status_code for one in answers} == {201}
    assert len({json.dumps(one.json(), sort_keys=True) for one in answers}) == 1
    assert agent.deployments.count() == 1
    assert sum("Idempotency-Replayed" not in one.headers for one in answers) == 1
