"""An embedder: texts in, one vector for each out, alike texts near each other by cosine.

It raises `Retryable` when the server is away or answers what is not its wire format, `Rejected` when it refuses these
very texts, and `Misconfigured` when its vectors do not fit the column.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from maxxit.core.errors import Misconfigured, Retryable
from maxxit.knowledge.models import DIMENSIONS

Vector = list[float]


class Embedder(Protocol):
    """One maker of vectors."""

    @property
    def identity(self) -> str:
        """Adapter, model and dimensions: vectors of another identity are not comparable."""

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector of length one and `DIMENSIONS` numbers for each text, in the same order.

        The texts are valid Unicode and were redacted: they may leave this machine.
        """


def fitted(found: Any, texts: Sequence[str], where: str) -> list[Vector]:
    """What a server answered, checked, brought to length one and filled up with zeros."""
    if not isinstance(found, list) or len(found) != len(texts):
        raise Retryable(f"{where} answered without one vector for each of {len(texts)} texts")
    return [_fit(one, where) for one in found]


def _fit(vector: Any, where: str) -> Vector:
    numbers = isinstance(vector, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in vector
    )
    length = math.hypot(*vector) if numbers else 0.0
    if not length or not math.isfinite(length):
        raise Retryable(f"{where} answered a vector that is no list of finite numbers, or all zeros")
    if len(vector) > DIMENSIONS:
        raise Misconfigured(
            f"config/knowledge.yaml: {where} makes vectors of {len(vector)} numbers and the column holds "
            f"{DIMENSIONS}: set `dimensions: {DIMENSIONS}` or choose a smaller model"
        )
    return [x / length for x in vector] + [0.0] * (DIMENSIONS - len(vector))
