"""A model call is in the event log before its outcome can be known."""

import json
from pathlib import Path
from typing import Any

import pytest

from maxxit.core.errors import MaxxitError
from maxxit.events.models import Event
from maxxit.llm import recordings
from tests.events.writers import another_connection
from tests.llm import server as fake
from tests.llm.questions import answer, asked, post, reading
from tests.llm.server import Handler, ModelServer

pytestmark = pytest.mark.django_db(transaction=True)


def called() -> list[tuple[str, dict[str, Any]]]:
    return list(Event.objects.filter(name__startswith="model.").order_by("pk").values_list("name", "data"))


def test_the_call_is_committed_when_the_request_arrives(policy_dir: Path, server: ModelServer) -> None:
    """Another connection sees its event before the answer is sent."""
    text = json.dumps(answer(reading()))
    seen: list[int] = []

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        with another_connection() as other:
            row = other.execute("SELECT count(*) FROM events WHERE name = 'model.called'").fetchone()
            seen.append(row[0] if row else 0)
        fake.says(text)(handler, body)

    server.otherwise = reply
    asked()
    (called_name, call), (answered, outcome) = called()

    assert seen == [1]
    assert (called_name, answered) == ("model.called", "model.answered")
    assert (call["provider"], call["purpose"]) == ("first", "classify")
    assert len(call["request_sha256"]) == len(call["prompt_sha256"]) == 64
    assert outcome["call"] == Event.objects.get(name="model.called").pk
    assert outcome["answer_sha256"] == recordings.digest(text)


def test_a_call_of_several_posts_names_each(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.says(json.dumps(answer(reading("1"), reading("2"))))
    asked(post("1"), post("2"))

    for event in Event.objects.filter(name__startswith="model."):
        ids = event.data["correlation_ids"]
        assert (len(set(ids)), ids[0]) == (2, str(event.correlation_id))


def test_a_call_that_fails_has_an_outcome_too(policy_dir: Path, server: ModelServer) -> None:
    server.otherwise = fake.status(500)
    with pytest.raises(MaxxitError):
        asked()
    found = called()

    assert [name for name, _ in found][:2] == ["model.called", "model.answered"]
    assert found[1][1]["error"] == "Retryable"
    assert "answer_sha256" not in found[1][1]
