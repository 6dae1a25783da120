"""One contract for every adapter: what it sends, what it makes of every answer and of every failure."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from maxxit.core.errors import Misconfigured, Rejected, Retryable
from maxxit.llm.providers import PROVIDERS
from maxxit.llm.providers.base import Provider, Request
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
Open = Callable[[str], Provider]


@pytest.fixture
def opened(server: ModelServer) -> Open:
    """An adapter by name, pointed at the fake server."""

    def make(name: str) -> Provider:
        return PROVIDERS.open(
            name,
            name=name,
            model="m-1",
            base_url=server.url,
            key="sk-test-abcdefghijkl",
            temperature=0.3,
            timeout=0.4,
        )

    return make


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
    "no choices": fake.raw(b'{"choices": [], "content": []}'),
    "wrong types": fake.raw(b'{"choices": "x", "content": {"a": 1}, "usage": 7}'),
    "null content": fake.raw(b'{"choices": [{"message": {"content": null}}], "content": [null]}'),
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


def test_rules_read_posts_only(opened: Open) -> None:
    with pytest.raises(Misconfigured, match="reads posts only"):
        opened("rules").complete(Request("generate", "", "", {"token": "BTC"}, {}, "Proposal"))


def test_an_unknown_adapter_is_named() -> None:
    with pytest.raises(Misconfigured, match="known: anthropic, openai, rules"):
        PROVIDERS.open("grok")
