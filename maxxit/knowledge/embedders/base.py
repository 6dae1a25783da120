"""Interface of embedders: texts to vectors that are near each other, by cosine, for similar texts.

An embedder raises `Retryable` when the server is unavailable or its answer malformed, `Rejected` when the server
refuses the texts, and `Misconfigured` when the vectors are longer than the column.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from maxxit.core.errors import Misconfigured, Retryable
from maxxit.knowledge.models import DIMENSIONS

Vector = list[float]


class Embedder(Protocol):
    """Computes the vectors of texts."""

    @property
    def identity(self) -> str:
        """Adapter, model and dimensions; vectors of different identities are not comparable."""

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector of `DIMENSIONS` numbers per text, in the same order.

        The texts are valid Unicode and redacted, so they may be sent to a server.
        """


@runtime_checkable
class EmbedsQuestions(Protocol):
    """An embedder whose vectors of questions differ from those of documents."""

    def embed_questions(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector of `DIMENSIONS` numbers per question, in the same order."""


def embed_questions(by: Embedder, texts: Sequence[str]) -> list[Vector]:
    """Return the vectors of questions: as documents, where the embedder makes no difference."""
    return by.embed_questions(texts) if isinstance(by, EmbedsQuestions) else by.embed(texts)


def normalize_vectors(vectors: Any, texts: Sequence[str], where: str) -> list[Vector]:
    """Return the vectors of a server's answer, validated, scaled to length one and padded with zeros.

    Raises Retryable for a malformed answer, Misconfigured for vectors longer than `DIMENSIONS`.
    """
    if not isinstance(vectors, list) or len(vectors) != len(texts):
        raise Retryable(f"{where} answered without one vector for each of {len(texts)} texts")
    return [_normalize(vector, where) for vector in vectors]


def _normalize(vector: Any, where: str) -> Vector:
    numbers = isinstance(vector, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in vector
    )
    length = math.hypot(*vector) if numbers else 0.0
    if not length or not math.isfinite(length):
        raise Retryable(f"{where} answered a vector that is not a list of finite numbers, or all zeros")
    if len(vector) > DIMENSIONS:
        raise Misconfigured(
            f"config/knowledge.yaml: {where} returns vectors of {len(vector)} numbers, more than the column's "
            f"{DIMENSIONS}: set `dimensions: {DIMENSIONS}` or choose a smaller model"
        )
    return [x / length for x in vector] + [0.0] * (DIMENSIONS - len(vector))
