"""One contract for every adapter: what it sends, what it makes of every answer and of every failure."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Provider, Request, Unanswered
from maxxit.llm.providers.error_bodies import refused_parameter
from tests.llm import server as fake
from tests.llm.server import ModelServer

READINGS: dict[str, list[Any]] = {"readings": []}
REQUEST = Request(
    purpose="classify",
    system="You read posts.",
    user='{"posts": []}',
    data={"posts": [], "tokens": {"BTC": ["btc"]}},
    schema={"type": "object", "properties": {"readings": {"type": "array"}}},
    schema_name="Readings",
    max_tokens=650,
)
NETWORKED = ("openai", "anthropic")
OURS = {"rules": "rules-4", "trained": "reader-1"}
"""Our own readers -> a version; they call nothing."""
Open = Callable[[str], Provider]


@pytest.fixture
def opened(server: ModelServer) -> Open:
    """An adapter by name, pointed at the fake server."""

    def make(name: str) -> Provider:
        return PROVIDERS.open(
            name,
            name=name,
            model=OURS.get(name, "m-1"),
            base_url=server.url,
            key="sk-test-abcdefghijkl",
            temperature=0.3,
            timeout=0.4,
        )

    return make


def test_every_adapter_is_enrolled() -> None:
    assert {*NETWORKED, *OURS} == set(PROVIDERS)


@pytest.mark.parametrize("name", [*PROVIDERS])
def test_an_answer_is_json_text_with_its_model(name: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.says(READINGS)
    answer = opened(name).complete(REQUEST)
    assert json.loads(answer.text) == READINGS
    assert answer.model


@pytest.mark.parametrize("name", NETWORKED)
def test_tokens_are_counted(name: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.says(READINGS)
    answer = opened(name).complete(REQUEST)
    assert (answer.model, answer.prompt_tokens, answer.completion_tokens) == ("fake-1", 100, 20)


@pytest.mark.parametrize("name", NETWORKED)
def test_what_is_sent(name: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.says(READINGS)
    opened(name).complete(REQUEST)
    body, headers = server.asked[0], server.headers[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m-1", 0.3, 650)
    if name == "openai":
        assert headers["authorization"] == "Bearer sk-test-abcdefghijkl"
        assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
        assert body["response_format"]["json_schema"]["schema"] == REQUEST.schema
    else:
        assert headers["x-api-key"] == "sk-test-abcdefghijkl"
        assert body["system"] == REQUEST.system
        assert body["tools"][0]["input_schema"] == REQUEST.schema
        assert body["tool_choice"]["name"] == "Readings"


AWAY: dict[str, fake.Reply] = {
    "500": fake.status(500),
    "503": fake.status(503),
    "slow": fake.slow(1.0),
    "cut": fake.cut,
    "html": fake.raw(b"<html>Bad gateway</html>"),
    "garbage": fake.raw(bytes(range(256))),
    "empty": fake.raw(b""),
    "list": fake.raw(b"[1, 2]"),
    "deep": fake.raw(b"[" * 100_000),
    "neither choices nor content": fake.raw(b'{"id": "x"}'),
    "error in a 200": fake.raw(b'{"error": {"message": "upstream is busy", "code": 503}}'),
    "wrong types": fake.raw(b'{"choices": "x", "content": {"a": 1}, "usage": 7}'),
}


@pytest.mark.parametrize("name", NETWORKED)
@pytest.mark.parametrize("reply", AWAY.values(), ids=[*AWAY])
def test_a_provider_that_is_away_is_retryable(
    name: str, reply: fake.Reply, opened: Open, server: ModelServer
) -> None:
    server.otherwise = reply
    with pytest.raises(Retryable):
        opened(name).complete(REQUEST)


@pytest.mark.parametrize("name", NETWORKED)
def test_rate_limits_carry_their_hint(name: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.status(429, retry_after="7")
    with pytest.raises(Retryable) as failed:
        opened(name).complete(REQUEST)
    assert failed.value.after == 7


@pytest.mark.parametrize("name", NETWORKED)
@pytest.mark.parametrize(("code", "expected"), [(400, "http_400"), (401, "http_401"), (422, "http_422")])
def test_a_no_is_rejected(name: str, code: int, expected: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.status(code)
    with pytest.raises(Rejected) as failed:
        opened(name).complete(REQUEST)
    assert failed.value.code == expected


@pytest.mark.parametrize("name", NETWORKED)
def test_a_huge_answer_is_rejected(name: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.raw(b'{"a": "' + b"x" * 2_000_000 + b'"}')
    with pytest.raises(Rejected) as failed:
        opened(name).complete(REQUEST)
    assert failed.value.code == "answer_too_large"


@pytest.mark.parametrize("name", NETWORKED)
def test_an_unreachable_server_is_retryable(name: str) -> None:
    provider = PROVIDERS.open(
        name, name=name, model="m", base_url="http://127.0.0.1:9", key="", temperature=0.3, timeout=0.4
    )
    with pytest.raises(Retryable):
        provider.complete(REQUEST)


@pytest.mark.parametrize("tokens", [-1, True, "12", None, 10**20, 1.5])
def test_senseless_token_counts_are_unknown(tokens: Any, opened: Open, server: ModelServer) -> None:
    answer = fake.wrapped("/chat/completions", "{}")
    answer["usage"] = {"prompt_tokens": tokens}
    server.otherwise = fake.raw(json.dumps(answer).encode())
    assert opened("openai").complete(REQUEST).prompt_tokens is None


def test_a_refusal_is_rejected(opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.raw(b'{"choices": [{"message": {"refusal": "I will not"}}]}')
    with pytest.raises(Rejected) as failed:
        opened("openai").complete(REQUEST)
    assert failed.value.code == "answer_refused"


def answers_with(server: ModelServer, **body: Any) -> None:
    server.otherwise = fake.raw(json.dumps(body).encode())


def message(**fields: Any) -> dict[str, Any]:
    return {"finish_reason": "stop", "message": {"role": "assistant", "content": None, **fields}}


CALL = {"type": "function", "function": {"name": "Readings", "arguments": '{"readings": []}'}}
OPENAI_ANSWERS: dict[str, dict[str, Any]] = {
    "tool call before text": message(content="I will use the tool {}", tool_calls=[CALL]),
    "arguments as an object": message(
        tool_calls=[{"function": {"name": "Readings", "arguments": {"readings": []}}}]
    ),
    "the named tool": message(tool_calls=[CALL, {"function": {"name": "other", "arguments": '{"a": 1}'}}]),
    "function call": message(function_call=CALL["function"]),
    "parts": message(content=[{"type": "text", "text": '{"readings"'}, {"type": "text", "text": ": []}"}]),
    "object": message(content={"readings": []}),
    "reasoning beside it": message(content='{"readings": []}', reasoning_content="hm {}"),
}


@pytest.mark.parametrize("choice", OPENAI_ANSWERS.values(), ids=[*OPENAI_ANSWERS])
def test_openai_shapes_of_an_answer(choice: dict[str, Any], opened: Open, server: ModelServer) -> None:
    answers_with(server, choices=[choice])
    assert json.loads(opened("openai").complete(REQUEST).text) == READINGS


USE = {"type": "tool_use", "id": "t", "name": "Readings", "input": READINGS}
ANTHROPIC_ANSWERS: dict[str, list[Any]] = {
    "tool after text": [{"type": "text", "text": "I use {the} tool"}, USE],
    "tool after thinking": [{"type": "thinking", "thinking": "{}", "signature": "s"}, USE],
    "the named tool": [USE, {"type": "tool_use", "name": "other", "input": {"a": 1}}],
    "a tool of the server": [USE, {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}}],
    "a block of no known kind": [
        {"type": ["text"], "text": "x"},
        {"type": "text", "text": json.dumps(READINGS)},
    ],
    "text in several blocks": [{"type": "text", "text": '{"readings"'}, {"type": "text", "text": ": []}"}],
}


@pytest.mark.parametrize("blocks", ANTHROPIC_ANSWERS.values(), ids=[*ANTHROPIC_ANSWERS])
def test_anthropic_shapes_of_an_answer(blocks: list[Any], opened: Open, server: ModelServer) -> None:
    answers_with(server, content=blocks, stop_reason="tool_use")
    assert json.loads(opened("anthropic").complete(REQUEST).text) == READINGS


NO_ANSWER: dict[str, tuple[str, dict[str, Any], str]] = {
    "no choices": ("openai", {"choices": []}, "answer_empty"),
    "null choices": ("openai", {"choices": None}, "answer_empty"),
    "null message": ("openai", {"choices": [{"message": None}]}, "answer_empty"),
    "blank": ("openai", {"choices": [message(content=" ")]}, "answer_empty"),
    "refusal": ("openai", {"choices": [message(refusal="no")]}, "answer_refused"),
    "refusal part": ("openai", {"choices": [message(content=[{"refusal": "no"}])]}, "answer_refused"),
    "filter": ("openai", {"choices": [message() | {"finish_reason": "content_filter"}]}, "answer_filtered"),
    "half filtered": (
        "openai", {"choices": [message(content="{}") | {"finish_reason": "content_filter"}]}, "answer_filtered",
    ),
    "Google's": ("openai", {"choices": [message() | {"finish_reason": "SAFETY"}]}, "answer_filtered"),
    "no content": ("anthropic", {"content": []}, "answer_empty"),
    "null content": ("anthropic", {"content": [None]}, "answer_empty"),
    "stop": ("anthropic", {"content": [], "stop_reason": "refusal"}, "answer_refused"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "body", "code"), NO_ANSWER.values(), ids=[*NO_ANSWER])
def test_no_answer_concerns_the_question(
    name: str, body: dict[str, Any], code: str, opened: Open, server: ModelServer
) -> None:
    answers_with(server, **body, usage={"prompt_tokens": 7, "input_tokens": 7})
    with pytest.raises(Unanswered) as failed:
        opened(name).complete(REQUEST)
    assert (failed.value.code, failed.value.answer.prompt_tokens) == (code, 7)


AZURE = {"code": "content_filter", "param": "prompt", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
FILTERED_400: dict[str, dict[str, Any]] = {
    "azure": {"error": {"message": "The response was filtered due to the prompt", **AZURE}},
    "openai": {"error": {"code": "content_policy_violation", "message": "rejected by our safety system"}},
    "reasoning model": {"error": {"code": "invalid_prompt", "message": "violating our usage policy"}},
    "anthropic": {"type": "error", "error": {"type": "invalid_request_error",
                                             "message": "Output blocked by content filtering policy"}},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKED)
@pytest.mark.parametrize("body", FILTERED_400.values(), ids=[*FILTERED_400])
def test_a_filter_that_answers_400_concerns_the_question(
    name: str, body: dict[str, Any], opened: Open, server: ModelServer
) -> None:
    server.otherwise = fake.status(400, json.dumps(body))
    with pytest.raises(Unanswered) as failed:
        opened(name).complete(REQUEST)
    assert failed.value.code == "answer_filtered"
    assert len(server.asked) == 1


def refuses(*names: str, words: Callable[[str], dict[str, Any]], status: int = 400) -> fake.Reply:
    """A server that does not take these parameters."""

    def reply(handler: fake.Handler, body: dict[str, Any]) -> None:
        for name in names:
            if name in body:
                handler.send(status, json.dumps(words(name)).encode())
                return
        fake.says(READINGS)(handler, body)

    return reply


WORDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openai": lambda name: {"error": {"param": name, "code": "unsupported_parameter", "message": "no"}},
    "nested": lambda name: {"error": {"param": f"{name}.json_schema", "message": "Invalid value"}},
    "sentence": lambda name: {"error": {"message": f"`{name}` is not supported with this model"}},
    "anthropic": lambda name: {"error": {"message": f"{name}: Extra inputs are not permitted"}},
    "fastapi": lambda name: {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "no"}]},
    "vllm": lambda name: {"object": "error", "message": f"[{{'type': 'x', 'loc': ('body', '{name}'), 'msg': 'no'}}]"},
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS.values(), ids=[*WORDS])
@pytest.mark.parametrize("status", [400, 422])
def test_refused_parameters_are_left_out_for_the_rest_of_the_process(
    words: Callable[[str], dict[str, Any]], status: int, opened: Open, server: ModelServer
) -> None:
    server.otherwise = refuses("max_tokens", "temperature", "response_format", words=words, status=status)
    assert json.loads(opened("openai").complete(REQUEST).text) == READINGS
    last = server.asked[-1]
    assert (len(server.asked), last["max_completion_tokens"]) == (4, 650)
    assert '"readings"' in last["messages"][0]["content"], "the schema stands in the prompt instead"
    opened("openai").complete(REQUEST)
    assert len(server.asked) == 5


def test_anthropic_goes_without_temperature_and_a_forced_tool(opened: Open, server: ModelServer) -> None:
    server.otherwise = refuses("temperature", "tool_choice", words=WORDS["sentence"])
    opened("anthropic").complete(REQUEST)
    assert {"temperature", "tool_choice"}.isdisjoint(server.asked[-1])


@pytest.mark.parametrize(("name", "parameter"), [("anthropic", "max_tokens"), ("openai", "model")])
def test_a_needed_parameter_that_is_refused_is_a_setting(
    name: str, parameter: str, opened: Open, server: ModelServer
) -> None:
    server.otherwise = refuses(parameter, words=WORDS["openai"])
    with pytest.raises(Misconfigured, match=rf"config/llm\.yaml: providers\.{name}.*'{parameter}'"):
        opened(name).complete(REQUEST)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens; max_tokens must be smaller",
        "Invalid value for messages[1].content",
        "bad request",
    ],
)
def test_a_400_about_the_question_stays_one(message: str, opened: Open, server: ModelServer) -> None:
    server.otherwise = fake.status(400, json.dumps({"error": {"message": message}}))
    with pytest.raises(Rejected) as failed:
        opened("openai").complete(REQUEST)
    assert (failed.value.code, len(server.asked)) == ("http_400", 1)


@pytest.mark.parametrize("step", [[], {}, None, 7])
def test_a_place_in_an_error_that_is_no_name_is_passed_over(step: Any) -> None:
    body = json.dumps({"detail": [{"loc": [step, "temperature"], "msg": "Extra inputs are not permitted"}]})
    assert refused_parameter(body, ["temperature"]) == "temperature"


def test_what_one_question_was_refused_for_is_not_remembered(opened: Open, server: ModelServer) -> None:
    """The post's text made the server name a parameter; without it the question is refused all the same."""
    no = fake.status(400, json.dumps(WORDS["openai"]("temperature")))
    server.replies += [no, fake.status(400, "bad request")]
    with pytest.raises(Rejected):
        opened("openai").complete(REQUEST)
    server.otherwise = fake.says(READINGS)
    opened("openai").complete(REQUEST)
    assert "temperature" in server.asked[-1]


def test_rules_read_posts_only(opened: Open) -> None:
    with pytest.raises(Misconfigured, match="reads posts only"):
        opened("rules").complete(Request("generate", "", "", {"token": "BTC"}, {}, "Proposal"))


def test_an_unknown_adapter_is_named() -> None:
    with pytest.raises(Misconfigured, match="known: anthropic, openai, rules"):
        PROVIDERS.open("grok")
