"""Targets: posts as X gives them, and what language models and web servers answer."""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.core.cache import cache as kept
from pydantic import ValidationError

from maxxit.core import http
from maxxit.core.errors import Retryable, Unknown
from maxxit.llm import answers
from maxxit.llm.exporters import otlp
from maxxit.llm.providers import wire
from maxxit.llm.providers.anthropic import Anthropic
from maxxit.llm.providers.base import Request
from maxxit.llm.providers.openai import OpenAi
from signals_app.reading.schema import Readings
from signals_app.sources.base import Cursor
from signals_app.sources.x import XSource
from tests.fuzz.door import DOOR, REQUEST, Headers, Outcome, Target
from tests.llm.server import choice, message

RECORDED = json.loads((Path(__file__).parents[1] / "conformance/recorded/x.json").read_text())
LONG = "Long $BTC here, target 120k " + "and adding on every dip " * 12
POSTS = [
    {"id": str(1577730467436138524 + place), "text": text, "created_at": "2026-03-02T12:00:00.000Z"}
    for place, text in enumerate(
        ("Long $BTC", "RT @pumper: all in", "Short $ETH 🚀", "gm", "sell, target 1,900")
    )
]
LONG_POST = POSTS[0] | {"text": LONG[:275] + "…", "note_tweet": {"text": LONG}}
PAGE = {"data": [*POSTS, LONG_POST], "meta": {"result_count": 6, "newest_id": "1", "oldest_id": "2"}}
REFUSED = {"errors": [{"title": "Authorization Error", "detail": "you are not authorized", "value": "44"}]}

READINGS = {
    "readings": [
        {
            "post_id": str(place), "candidate": True, "tokens": ["BTC"], "sentiment": "bullish", "confidence": 0.8,
            "reasoning": "a call", "sides": {"ETH": "bearish"},
        }
        for place in range(3)
    ]
}  # fmt: skip
TEXTS = (json.dumps(READINGS), f"<think>so {{}}</think>Here:\n```json\n{json.dumps(READINGS)}\n```\nDone.")
TOOL_CALL = {"function": {"name": "Answer", "arguments": TEXTS[0]}, "id": "c", "type": "function"}
OPENAI = [*(choice({"content": text}) for text in TEXTS), choice({"tool_calls": [TOOL_CALL]}, "tool_calls")]
OPENAI += [
    choice({"refusal": "I cannot"}),
    choice({"content": [{"type": "text", "text": TEXTS[0]}]}, "length"),
]
USED = {"type": "tool_use", "id": "toolu_1", "name": "Answer", "input": READINGS}
ANTHROPIC = [message([{"type": "text", "text": "Here it is"}, USED], "tool_use"), message([], "refusal")]
ANTHROPIC += [message([{"type": "text", "text": text}], "end_turn") for text in TEXTS]
REFUSALS = [
    {
        "error": {
            "type": "invalid_request_error",
            "message": "Unsupported value: 'temperature'",
            "param": "temperature",
        }
    },
    {
        "error": {
            "message": "Unsupported parameter: 'max_tokens', use 'max_completion_tokens' instead",
            "code": None,
        }
    },
    {
        "detail": [
            {"loc": ["body", "response_format"], "msg": "Extra inputs are not permitted", "type": "extra"}
        ]
    },
    {
        "error": {
            "code": "content_filter",
            "message": "filtered",
            "innererror": {"code": "ResponsibleAIPolicyViolation"},
        }
    },
    [{"error": {"code": 400, "message": 'Unknown name "response_format"', "status": "INVALID_ARGUMENT"}}],
]
ASKED = Request("classify", "system", "user", {}, {"type": "object"}, "Answer")
HTTP = [
    b"429\nretry-after: 7\nx-rate-limit-remaining: 0\n\nslow down",
    b"429\nx-rate-limit-reset: 1777636800\n\n",
    b"503\nretry-after: 1.5\n\n<html>maintenance</html>",
    b'400\ncontent-type: application/json\n\n{"error": "no"}',
    b"302\nlocation: https://elsewhere.example\n\n",
]


@cache
def x_source() -> XSource:
    with patch.dict(os.environ, X_BEARER_TOKEN="token-of-a-test"):
        return XSource(posts_per_account=100, max_usd_per_day="1000000000")


def page_of_posts(data: bytes) -> Outcome:
    """Of an account without a cursor: each item is a post or is refused."""
    source = x_source()
    kept.set("x:user:alice", "44", timeout=None)
    kept.delete("x:wait:x")
    list(source.refused())  # of an input before
    DOOR.says(data)
    posts = list(source.fetch("alice", Cursor()))
    present = json.loads(data).get("data", [])
    return Outcome(len(posts), len(list(source.refused())), min(len(present), 100))


def account(data: bytes) -> Outcome:
    """The id of an account."""
    kept.delete_many(["x:user:alice", "x:wait:x"])
    DOOR.says(data)
    x_source()._user_id("alice")
    return Outcome(1)


def x_refusal(data: bytes) -> Outcome:
    """Any status with any body: our own error, and another question is asked later at most a day from now."""
    kept.set("x:user:alice", "44", timeout=None)
    kept.delete("x:wait:x")
    status, headers, body = head_and_body(data)
    DOOR.says(body, status, headers)
    found = list(x_source().fetch("alice", Cursor()))
    return Outcome(len(found), len(list(x_source().refused())))


def model(kind: type[OpenAi] | type[Anthropic], status: int = 200) -> Callable[[bytes], Outcome]:
    """The readings in a model's answer: each is used, or is no reading."""
    provider = kind(
        name="model", model="m", base_url="https://model.example", key="k", temperature=0, timeout=1
    )

    def read(data: bytes) -> Outcome:
        wire._rejected.clear()
        DOOR.says(data, status)
        text = provider.complete(ASKED).text
        try:
            found: Any = answers.find(text, ("readings",))
        except ValueError:
            return Outcome(0, 1, 1)
        try:
            kept: Readings | None = Readings.model_validate(found)
        except ValidationError:
            kept = Readings.lenient(found)
        return Outcome(len(kept.readings) if kept else 0)

    return read


def web_server(data: bytes) -> Outcome:
    """Status and headers of any server: a receiver of webhooks, a provider that wants fewer requests."""
    status, headers, body = head_and_body(data)
    response = http.Response(status, content=body, headers=headers, request=REQUEST)
    try:
        http._check_status(response, Unknown)
    except Retryable as later:
        if later.after is not None and not 0 <= later.after <= http.MAX_RETRY_AFTER:
            raise AssertionError(f"it waits {later.after} seconds") from later
        raise
    return Outcome(1)


def head_and_body(data: bytes) -> tuple[int, Headers, bytes]:
    """(status, headers, body) of "429\\nname: value\\n\\nbody"; a status that is none is 500."""
    first, _, rest = data.partition(b"\n")
    head, _, body = rest.partition(b"\n\n")
    status = int(first) if first.isdigit() and 100 <= int(first[:4]) <= 599 else 500
    lines = [line.partition(b":") for line in head.split(b"\n")]
    headers = [(name.strip(), value.strip()) for name, _, value in lines if name.strip()]
    return min(status, 599), [*headers], body


def collector(data: bytes) -> Outcome:
    """How many of ten spans a collector dropped."""
    refused = otlp._refused(data, 10)
    return Outcome(10 - refused, refused, 10)


def packed(*said: Any) -> list[bytes]:
    return [json.dumps(one).encode() for one in said]


TARGETS: dict[str, Target] = {
    "x posts": Target(packed(PAGE, PAGE, RECORDED["posts"]["body"], REFUSED), page_of_posts),
    "x accounts": Target(packed(RECORDED["user"]["body"], REFUSED), account),
    "x refusals": Target([*HTTP, *(b"403\n\n" + body for body in packed(REFUSED))], x_refusal),
    "openai answers": Target(packed(*OPENAI), model(OpenAi)),
    "openai refusals": Target(packed(*REFUSALS), model(OpenAi, 400)),
    "anthropic answers": Target(packed(*ANTHROPIC), model(Anthropic)),
    "anthropic refusals": Target(packed(*REFUSALS), model(Anthropic, 400)),
    "statuses and headers": Target(HTTP, web_server),
    "trace collectors": Target(
        packed({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "no"}}, {}),
        collector,
    ),
}
