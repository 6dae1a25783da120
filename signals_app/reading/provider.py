"""The provider `rules`: the lexical reader behind the interface of a language model, deterministic and offline.

It is used where the configuration names it, never as an implicit fallback. `model` names the version of the rules; the
newest is the default.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from maxxit.core.errors import Misconfigured
from maxxit.llm.providers.base import Answer, Request
from signals_app.reading.rules.read import VERSION, Reader


class LexicalReader:
    """Reads `request.data["posts"]` with `signals_app.reading.rules`; the prompt's text is ignored."""

    def __init__(
        self, *, name: str = "rules", model: str = "", base_url: str = "", key: str = "", **_: float
    ) -> None:
        self.name, self.model, self.base_url = name, model or VERSION, base_url
        self.parameters: Mapping[str, Any] = {}

    def complete(self, request: Request) -> Answer:
        """Read every post. Raises `Misconfigured` for a purpose other than posts."""
        if "posts" not in request.data or "tokens" not in request.data:
            raise Misconfigured(
                f"config/llm.yaml: the provider `rules` reads posts only; remove it from {request.purpose!r}"
            )
        reader = Reader.of(request.data["tokens"], self.model)
        readings = [
            reader.read(str(post["text"]), prices_of(post)).as_json(str(post["post_id"]))
            for post in request.data["posts"]
        ]
        return Answer(json.dumps({"readings": readings}, ensure_ascii=False), self.model, None, None)


def prices_of(post: Mapping[str, Any]) -> dict[str, Decimal]:
    """Return the prices of a question's post as numbers."""
    return {symbol: Decimal(price) for symbol, price in post.get("prices", {}).items()}
