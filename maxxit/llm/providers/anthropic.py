"""Anthropic's messages. The schema travels as the input of one forced tool: the way that API returns typed JSON.

The tool exists on paper only. Nothing is called; its input *is* the answer.
"""

import json
from collections.abc import Mapping
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.llm.providers.base import Answer, Request
from maxxit.llm.providers.wire import Wired, count, dig, post

VERSION = "2023-06-01"


class Anthropic(Wired):
    """POST {base_url}/messages."""

    def complete(self, request: Request) -> Answer:
        """Ask once."""
        body = {
            "model": self.model,
            "system": request.system,
            "messages": [{"role": "user", "content": request.user}],
            **self.parameters,
            "max_tokens": request.max_tokens,
            "tools": [
                {"name": request.schema_name, "description": "The answer.", "input_schema": request.schema}
            ],
            "tool_choice": {"type": "tool", "name": request.schema_name},
        }
        headers = {"x-api-key": self._key, "anthropic-version": VERSION}
        answer = post(self.base_url, "/messages", headers, self._timeout, body)
        return Answer(
            text=self._text(answer),
            model=str(answer.get("model") or self.model)[:120],
            prompt_tokens=count(dig(answer, "usage", "input_tokens")),
            completion_tokens=count(dig(answer, "usage", "output_tokens")),
        )

    def _text(self, answer: Mapping[str, Any]) -> str:
        """The tool's input, or plain text where the model answered in words."""
        blocks = answer.get("content")
        for block in blocks if isinstance(blocks, list) else []:
            if isinstance(given := dig(block, "input"), dict):
                return json.dumps(given, ensure_ascii=False)
            if isinstance(text := dig(block, "text"), str):
                return text
        raise Retryable(f"{self.name} answered without a content block")
