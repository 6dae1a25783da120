"""Adapter for the OpenAI chat completions API: OpenAI, Perplexity, Ollama, vLLM and others."""

import json
from collections.abc import Mapping
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.llm.providers import error_bodies
from maxxit.llm.providers.base import Answer, Request
from maxxit.llm.providers.wire import HttpProvider, count, dig, raise_error_in_200

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
"""Parameter names of the answer's token limit; newer models use the second."""


class OpenAi(HttpProvider):
    """POST {base_url}/chat/completions with a JSON schema as the response format."""

    path = "/chat/completions"
    droppable = frozenset({"temperature", "response_format", *TOKEN_LIMITS})

    def headers(self) -> dict[str, str]:
        """Return the headers; no Authorization where no key is configured."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def body(self, request: Request, refused: frozenset[str]) -> dict[str, Any]:
        """Return the request body; the schema moves into the system prompt where `response_format` is rejected."""
        system = request.system
        if "response_format" in refused:
            system += f"\n\nThe JSON schema of the answer:\n{json.dumps(request.schema, ensure_ascii=False)}"
        optional = {
            **self.parameters,
            "response_format": {
                "type": "json_schema",
                # Not `strict`: that mode does not support maps with free keys, and every answer is validated anyway.
                "json_schema": {"name": request.schema_name, "schema": request.schema},
            },
        }
        for name in TOKEN_LIMITS:
            if name not in refused:
                optional[name] = request.max_tokens
                break
        return {
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": request.user}],
            **{name: value for name, value in optional.items() if name not in refused},
        }

    def read(self, answer: Mapping[str, Any], request: Request) -> Answer:
        """Return the answer of the first choice: tool-call arguments, else the text."""
        choices = answer.get("choices")
        if not choices:
            raise_error_in_200(self.name, answer.get("error"))
        if "choices" not in answer or not isinstance(choices, list | None):
            raise Retryable(f"{self.name} answered without `choices`")
        choice, message = dig(choices, 0), dig(choices, 0, "message")
        raise_error_in_200(self.name, dig(choice, "error"))
        reason = str(dig(choice, "finish_reason") or "")
        if error_bodies.FILTER.search(reason):
            raise self.unanswered("filtered", reason, answer)
        text = _arguments(message, request.schema_name) or _content(dig(message, "content"))
        if refusal := dig(message, "refusal") or _refusal(dig(message, "content")):
            raise self.unanswered("refused", str(refusal), answer)
        if not text.strip():
            raise self.unanswered("empty", f"finish reason {reason or 'none'}", answer)
        return self.answer(text, answer, truncated=reason in {"length", "max_tokens"})

    def answer(self, text: str, answer: Mapping[str, Any], *, truncated: bool = False) -> Answer:
        """Return `text` with the model and token counts of the response."""
        return Answer(
            text=text,
            model=str(answer.get("model") or self.model)[:120],
            prompt_tokens=count(dig(answer, "usage", "prompt_tokens")),
            completion_tokens=count(dig(answer, "usage", "completion_tokens")),
            truncated=truncated,
        )


def _arguments(message: Any, name: str) -> str:
    """Return the arguments of the last tool call, preferring one named `name`; empty without tool calls."""
    calls = dig(message, "tool_calls")
    functions = [dig(call, "function") for call in calls] if isinstance(calls, list) else []
    functions.append(dig(message, "function_call"))  # the older form
    with_arguments = [function for function in functions if dig(function, "arguments")]
    named = [function for function in with_arguments if dig(function, "name") == name] or with_arguments
    return _as_text(dig(named[-1], "arguments")) if named else ""


def _content(content: Any) -> str:
    """Return the text of a message's content: a string, a list of parts, or an object that is the answer."""
    if not isinstance(content, list):
        return _as_text(content)
    parts = [part if isinstance(part, str) else dig(part, "text") for part in content]
    return "".join(part for part in parts if isinstance(part, str))


def _refusal(content: Any) -> Any:
    """Return the refusal among a content's parts, if any."""
    parts = content if isinstance(content, list) else []
    return next((dig(part, "refusal") for part in parts if dig(part, "refusal")), None)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else ""
