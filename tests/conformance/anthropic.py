"""Anthropic's messages: the anthropic client, with its answers checked against its own models."""

from typing import Any

import anthropic
import pytest

from tests.conformance.conftest import Fakes

ASKED: dict[str, Any] = {"model": "m-1", "max_tokens": 100, "messages": [{"role": "user", "content": "read"}]}


@pytest.fixture
def client(fakes: Fakes) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key="sk-test", base_url=fakes.urls["models"], max_retries=0, _strict_response_validation=True
    )


@pytest.mark.parametrize(
    ("kind", "stop", "types"),
    [
        ("json", "tool_use", ["tool_use"]),
        ("text", "end_turn", ["text"]),
        ("refusal", "refusal", []),
        ("cut", "max_tokens", ["text"]),
    ],
)
def test_every_answer_is_whole_by_the_clients_own_models(
    fakes: Fakes, client: anthropic.Anthropic, kind: str, stop: str, types: list[str]
) -> None:
    fakes.model_says(shape="anthropic", kind=kind)
    answer = client.messages.create(**ASKED)
    assert isinstance(answer, anthropic.types.Message)
    assert (answer.role, answer.type, answer.stop_reason) == ("assistant", "message", stop)
    assert [block.type for block in answer.content] == types
    assert not answer.model_extra


ERRORS: dict[str, tuple[type[anthropic.APIStatusError], str, str]] = {
    "too long": (anthropic.BadRequestError, "invalid_request_error", "Rejected"),
    "key": (anthropic.AuthenticationError, "authentication_error", "Rejected"),
    "limited": (anthropic.RateLimitError, "rate_limit_error", "Retryable"),
    "away": (anthropic.InternalServerError, "overloaded_error", "Retryable"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_of_the_clients_class_and_of_ours(
    fakes: Fakes, client: anthropic.Anthropic, kind: str
) -> None:
    theirs, name, ours = ERRORS[kind]
    fakes.model_says(shape="anthropic", kind=kind)
    with pytest.raises(theirs) as failed:
        client.messages.create(**ASKED)
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["error"]["type"] == name
    fakes.model_says(shape="anthropic", kind=kind)
    assert fakes.model_ours(shape="anthropic")["error"] == ours


@pytest.mark.parametrize(("kind", "code"), [("refusal", "answer_refused"), ("json", ""), ("text", "")])
def test_our_own_adapter_takes_the_same_answers_for_the_same(fakes: Fakes, kind: str, code: str) -> None:
    fakes.model_says(shape="anthropic", kind=kind)
    said = fakes.model_ours(shape="anthropic")
    assert said.get("code", "") == code
    if not code:
        assert said["text"] == ('{"readings": []}' if kind == "json" else "no JSON at all")
        assert (said["prompt_tokens"], said["completion_tokens"]) == (100, 20)


def test_a_model_without_a_temperature_is_asked_again_without_it(
    fakes: Fakes, client: anthropic.Anthropic
) -> None:
    """Since 2.0 the client has no such argument: newer models refuse it, in the words of `ANSWERS`."""
    fakes.model_says(shape="anthropic", kind="parameter")
    with pytest.raises(anthropic.BadRequestError, match="deprecated"):
        client.messages.create(**ASKED, extra_body={"temperature": 0.3})
    fakes.model_says(shape="anthropic", kind="parameter", then="json")
    assert fakes.model_ours(shape="anthropic", model="without")["text"] == '{"readings": []}'
    assert "temperature" not in fakes.model_asked()["body"]


def test_the_client_sends_our_own_request_unchanged(fakes: Fakes, client: anthropic.Anthropic) -> None:
    """It takes every name that we use, but the temperature of API version 2023-06-01, which we speak."""
    fakes.model_says(shape="anthropic", kind="json")
    fakes.model_ours(shape="anthropic")
    ours = fakes.model_asked()
    temperature = ours["body"].pop("temperature")
    fakes.model_says(shape="anthropic", kind="json")
    client.messages.create(**ours["body"])
    theirs = fakes.model_asked()
    assert (temperature, theirs["body"]) == (0.3, ours["body"])
    assert theirs["headers"]["content-type"] == ours["headers"]["content-type"]
    assert (ours["headers"]["x-api-key"], ours["headers"]["anthropic-version"]) == ("sk-test", "2023-06-01")
    assert theirs["headers"]["anthropic-version"] >= ours["headers"]["anthropic-version"]
