"""Embedder by feature hashing of words, word pairs and letter trigrams: no model, no network, deterministic.

It matches shared words, inflections and spellings, not paraphrases (recall in docs/knowledge.md). Feature hashing
after Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009): the sign makes collisions
cancel in expectation. A feature that occurs n times weighs 1 + ln(n).
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise

from maxxit.knowledge.embedders.base import Vector
from maxxit.knowledge.models import DIMENSIONS

_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "may",
        "more",
        "much",
        "not",
        "of",
        "on",
        "or",
        "our",
        "should",
        "so",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "whose",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
"""English words without meaning for the subject."""
WORD, PAIR, TRIGRAM = 1.0, 0.6, 0.35
"""Weights of a word, of two adjacent words, and of each letter trigram of a word."""


class Local:
    identity = f"local/hash-1/{DIMENSIONS}"

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one unit vector per text; the same text always gives the same vector."""
        return [_vector(text) for text in texts]


def _vector(text: str) -> Vector:
    vector = [0.0] * DIMENSIONS
    weights = {"w": WORD, "p": PAIR, "l": TRIGRAM}
    for feature, count in sorted(Counter(_features(text)).items()):
        hashed = int.from_bytes(
            blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
        )
        value = weights[feature[0]] * (1 + math.log(count))
        vector[(hashed >> 1) % DIMENSIONS] += value if hashed & 1 else -value
    length = math.hypot(*vector)
    if not length:  # no words: a fixed vector, since a zero vector has no cosine
        vector[0] = length = 1.0
    return [value / length for value in vector]


def _features(text: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = [word for word in _WORD.findall(plain) if word not in _STOP_WORDS]
    for word in words:
        yield "w" + word
        framed = f"<{word[:40]}>"
        for start in range(len(framed) - 2):
            yield "l" + framed[start : start + 3]
    for first, second in pairwise(words):
        yield f"p{first} {second}"
