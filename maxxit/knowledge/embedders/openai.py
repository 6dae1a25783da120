"""Embedder for OpenAI-compatible embeddings APIs: OpenAI, Jina, vLLM, LocalAI and others."""

from collections.abc import Sequence
from typing import Any

from maxxit.core.errors import Retryable
from maxxit.knowledge.embedders.base import Vector, normalize_vectors
from maxxit.llm.providers.wire import dig, post


class OpenAi:
    """Embeds by POST {base_url}/embeddings."""

    def __init__(self, *, model: str, base_url: str, key: str, dimensions: int, timeout: float) -> None:
        self.identity = f"openai/{model}/{dimensions}"[:120]
        self._url, self._key, self._timeout = base_url, key, timeout
        self._body: dict[str, Any] = {"model": model, "encoding_format": "float"}
        if dimensions:
            self._body["dimensions"] = dimensions

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed all texts in one call; the vectors are ordered by the answer's `index`."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        answer = post(self._url, "/embeddings", headers, self._timeout, self._body | {"input": list(texts)})
        rows = dig(answer, "data")
        by_index = (
            {dig(row, "index"): dig(row, "embedding") for row in rows} if isinstance(rows, list) else {}
        )
        if set(by_index) != set(range(len(texts))):
            raise Retryable("openai embeddings answered without one vector for each text")
        ordered = [by_index[index] for index in range(len(texts))]
        return normalize_vectors(ordered, texts, "openai embeddings")
