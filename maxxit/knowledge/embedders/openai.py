"""Any server that speaks OpenAI's embeddings: OpenAI itself, Jina, vLLM, LocalAI and others."""

from collections.abc import Sequence
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.knowledge.embedders.base import Vector, fitted
from maxxit.llm.providers.wire import dig, post


class OpenAi:
    """POST {base_url}/embeddings."""

    def __init__(self, *, model: str, base_url: str, key: str, dimensions: int, timeout: float) -> None:
        self.identity = f"openai/{model}/{dimensions}"[:120]
        self._url, self._key, self._timeout = base_url, key, timeout
        self._body: dict[str, Any] = {"model": model, "encoding_format": "float"}
        if dimensions:
            self._body["dimensions"] = dimensions

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One call for all; the answer's order is that of its `index`."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        answer = post(self._url, "/embeddings", headers, self._timeout, self._body | {"input": list(texts)})
        rows = dig(answer, "data")
        by_index = (
            {dig(row, "index"): dig(row, "embedding") for row in rows} if isinstance(rows, list) else {}
        )
        if set(by_index) != set(range(len(texts))):
            raise Retryable("openai embeddings answered without one vector for each text")
        return fitted([by_index[place] for place in range(len(texts))], texts, "openai embeddings")
