"""Embedder for Ollama: models on your own machine."""

from collections.abc import Sequence

from maxxit.knowledge.embedders.base import Vector, normalize_vectors
from maxxit.llm.providers.wire import dig, post


class Ollama:
    """Embeds by POST {base_url}/api/embed."""

    def __init__(self, *, model: str, base_url: str, key: str, dimensions: int, timeout: float) -> None:
        self.identity = f"ollama/{model}/{dimensions}"[:120]
        self._url, self._model, self._timeout = base_url, model, timeout
        self._key, self._dimensions = key, dimensions

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed all texts in one call. A text beyond the model's context window is an error, not truncated."""
        body = {"model": self._model, "input": list(texts), "truncate": False}
        if self._dimensions:
            body["dimensions"] = self._dimensions
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        answer = post(self._url, "/api/embed", headers, self._timeout, body)
        return normalize_vectors(dig(answer, "embeddings"), texts, "ollama embeddings")
