"""OpenAI's chat completions: the openai client, with its answers checked against its own models."""

from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tests.conformance.conftest import Fakes

ASKED: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "read"}]}


class Answer(BaseModel):
    """What is asked for."""

    readings: list[str]


@pytest.fixture
def client(fakes: Fakes) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="sk-test", base_url=fakes.urls["models"], max_retries=0, _strict_response_validation=True
    )


@pytest.mark.parametrize("kind", ["json", "tool", "refusal", "filter", "cut"])
def test_every_answer_is_whole_by_the_clients_own_models(
    fakes: Fakes, client: openai.OpenAI, kind: str
) -> None:
    fakes.model_says(shape="openai", kind=kind)
    answer = client.chat.completions.create(**ASKED)
    assert isinstance(answer, ChatCompletion)
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert not answer.choices[0].message.model_extra


def test_a_schema_is_answered_and_parsed(fakes: Fakes, client: openai.OpenAI) -> None:
    fakes.model_says(shape="openai", kind="json")
    parsed = client.chat.completions.parse(**ASKED, response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(readings=[])
    theirs = fakes.model_asked()["body"]["response_format"]
    fakes.model_says(shape="openai", kind="json")
    fakes.model_ours(shape="openai")
    ours = fakes.model_asked()["body"]["response_format"]
    assert (ours["type"], ours["json_schema"]["name"]) == (theirs["type"], theirs["json_schema"]["name"])
    assert ours["json_schema"].keys() <= theirs["json_schema"].keys()


def test_refusal_filter_and_cut_are_what_the_client_takes_for_them(
    fakes: Fakes, client: openai.OpenAI
) -> None:
    fakes.model_says(shape="openai", kind="refusal")
    refused = client.chat.completions.parse(**ASKED, response_format=Answer).choices[0].message
    assert (refused.parsed, refused.refusal) == (None, "I will not.")
    fakes.model_says(shape="openai", kind="filter")
    with pytest.raises(openai.ContentFilterFinishReasonError):
        client.chat.completions.parse(**ASKED, response_format=Answer)
    fakes.model_says(shape="openai", kind="cut")
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**ASKED, response_format=Answer)


def test_a_tool_call_is_read(fakes: Fakes, client: openai.OpenAI) -> None:
    fakes.model_says(shape="openai", kind="tool")
    calls = client.chat.completions.create(**ASKED).choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert Answer.model_validate_json(calls[0].function.arguments) == Answer(readings=[])


ERRORS: dict[str, tuple[type[openai.APIStatusError], str]] = {
    "too long": (openai.BadRequestError, "Rejected"),
    "key": (openai.AuthenticationError, "Rejected"),
    "limited": (openai.RateLimitError, "Retryable"),
    "away": (openai.InternalServerError, "Retryable"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_of_the_clients_class_and_of_ours(fakes: Fakes, client: openai.OpenAI, kind: str) -> None:
    theirs, ours = ERRORS[kind]
    fakes.model_says(shape="openai", kind=kind)
    with pytest.raises(theirs) as failed:
        client.chat.completions.create(**ASKED)
    assert isinstance(failed.value.body, dict)
    assert failed.value.body["message"]
    fakes.model_says(shape="openai", kind=kind)
    assert fakes.model_ours(shape="openai")["error"] == ours


def test_a_parameter_that_is_refused_is_named_and_left_out(fakes: Fakes, client: openai.OpenAI) -> None:
    fakes.model_says(shape="openai", kind="parameter")
    with pytest.raises(openai.BadRequestError) as failed:
        client.chat.completions.create(**ASKED)
    assert (failed.value.param, failed.value.code) == ("temperature", "unsupported_value")
    fakes.model_says(shape="openai", kind="parameter", then="json")
    assert fakes.model_ours(shape="openai", model="without")["text"] == '{"readings": []}'
    assert "temperature" not in fakes.model_asked()["body"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("refusal", "answer_refused"), ("filter", "answer_filtered"), ("json", ""), ("tool", "")],
)
def test_our_own_adapter_takes_the_same_answers_for_the_same(fakes: Fakes, kind: str, code: str) -> None:
    fakes.model_says(shape="openai", kind=kind)
    said = fakes.model_ours(shape="openai")
    assert said.get("code", "") == code
    if not code:
        assert Answer.model_validate_json(said["text"]) == Answer(readings=[])
        assert (said["prompt_tokens"], said["completion_tokens"]) == (100, 20)


def test_the_client_sends_our_own_request_unchanged(fakes: Fakes, client: openai.OpenAI) -> None:
    """It takes every name that we use, and writes the same JSON."""
    fakes.model_says(shape="openai", kind="json")
    fakes.model_ours(shape="openai")
    ours = fakes.model_asked()
    fakes.model_says(shape="openai", kind="json")
    client.chat.completions.create(**ours["body"])
    theirs = fakes.model_asked()
    assert theirs["body"] == ours["body"]
    for name in ("authorization", "content-type"):
        assert theirs["headers"][name] == ours["headers"][name]
