"""Adapter for Anthropic's messages API. The schema is sent as the input of one forced tool, as that API requires.

No tool is called: its input is the answer.
"""

import json
from collections.abc import Mapping
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.llm.providers.base import Answer, Request
from maxxit.llm.providers.wire import HttpProvider, count, dig, raise_error_in_200

VERSION = "2023-06-01"


class Anthropic(HttpProvider):
    """POST {base_url}/messages."""

    path = "/messages"
    droppable = frozenset({"temperature", "tool_choice"})

    def headers(self) -> dict[str, str]:
        return {"x-api-key": self._key, "anthropic-version": VERSION}

    def body(self, request: Request, refused: frozenset[str]) -> dict[str, Any]:
        """Return the request body, with the schema as the only tool."""
        tool = {"name": request.schema_name, "description": "The answer.", "input_schema": request.schema}
        optional = {**self.parameters, "tool_choice": {"type": "tool", "name": request.schema_name}}
        return {
            "model": self.model,
            "system": request.system,
            "messages": [{"role": "user", "content": request.user}],
            "max_tokens": request.max_tokens,
            "tools": [tool],
            **{name: value for name, value in optional.items() if name not in refused},
        }

    def read(self, answer: Mapping[str, Any], request: Request) -> Answer:
        """Return the tool's input, or the text where the model used no tool."""
        blocks = answer.get("content")
        if not blocks:
            raise_error_in_200(self.name, answer.get("error"))
        if "content" not in answer or not isinstance(blocks, list | None):
            raise Retryable(f"{self.name} answered without `content` blocks")
        reason = str(answer.get("stop_reason") or "")
        if reason == "refusal":
            raise self.unanswered("refused", str(dig(answer, "stop_details") or reason), answer)
        text = _input(blocks or [], request.schema_name) or _text(blocks or [])
        if not text.strip():
            raise self.unanswered("empty", f"stop reason {reason or 'none'}", answer)
        cut = reason in {"max_tokens", "model_context_window_exceeded"}
        return self.answer(text, answer, truncated=cut)

    def answer(self, text: str, answer: Mapping[str, Any], *, truncated: bool = False) -> Answer:
        """Return `text` with the model and token counts of the response."""
        return Answer(
            text=text,
            model=str(answer.get("model") or self.model)[:120],
            prompt_tokens=count(dig(answer, "usage", "input_tokens")),
            completion_tokens=count(dig(answer, "usage", "output_tokens")),
            truncated=truncated,
        )


def _input(blocks: list[Any], name: str) -> str:
    """Return the input of the last tool use, preferring the tool `name`; empty without any."""
    used = [block for block in blocks if dig(block, "type") == "tool_use" and dig(block, "input")]
    named = [block for block in used if dig(block, "name") == name] or used
    given = dig(named[-1], "input") if named else ""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _text(blocks: list[Any]) -> str:
    """Join the text blocks: citations split one text into several."""
    texts = [dig(block, "text") for block in blocks if dig(block, "type") in ("text", None)]
    return "".join(text for text in texts if isinstance(text, str))
