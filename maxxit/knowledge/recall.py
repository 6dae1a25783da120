"""Measures how often an embedder finds the document that answers a question: recall at 1 and 5, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxxit.core.config import read_yaml
from maxxit.core.errors import Misconfigured
from maxxit.core.intervals import wilson
from maxxit.knowledge.chunks import normalize_whitespace, split
from maxxit.knowledge.embedders.base import Embedder, Vector, embed_questions
from maxxit.knowledge.policy import policy


@dataclass(frozen=True, slots=True)
class Questions:
    """Documents by name, and questions as (document that answers it, kind, text)."""

    documents: Mapping[str, str]
    questions: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Recall:
    """The recall on the questions of one kind."""

    kind: str
    questions: int
    at_1: float
    at_5: float
    at_5_95: tuple[float, float]
    """95 % Wilson interval."""


def read(path: Path) -> Questions:
    """Read a set of questions (tests/knowledge/questions.yaml is one). Raises `Misconfigured` naming what is wrong."""
    found = read_yaml(path)
    documents, questions = found.get("documents"), found.get("questions")
    if not isinstance(documents, dict) or not isinstance(questions, list) or not questions:
        raise Misconfigured(
            f"{path}: needs `documents` (name: text) and `questions` ([document, kind, text])"
        )
    for number, one in enumerate(questions, start=1):
        if not (isinstance(one, list) and len(one) == 3 and one[0] in documents):
            raise Misconfigured(
                f"{path}: question {number} must be [a document's name, kind, text]; it is {one!r}"
            )
    return Questions(documents, [(str(a), str(b), str(c)) for a, b, c in questions])


def measure(by: Embedder, asked: Questions) -> list[Recall]:
    """Return the recall by kind and over all: a document's similarity is that of its nearest chunk."""
    chunking = policy().chunking
    names, texts = [], []
    for name, text in asked.documents.items():
        for chunk in split(normalize_whitespace(text), chunking.chars, chunking.overlap):
            names.append(name)
            texts.append(chunk)
    chunks = by.embed(texts)
    hits: dict[str, list[tuple[bool, bool]]] = {}
    for (answer, kind, _), vector in zip(
        asked.questions, embed_questions(by, [q[2] for q in asked.questions]), strict=True
    ):
        nearest = _nearest(vector, names, chunks)
        for of in (kind, "all"):
            hits.setdefault(of, []).append((nearest[:1] == [answer], answer in nearest[:5]))
    kinds = [kind for kind in hits if kind != "all"] + ["all"]
    return [_recall(kind, hits[kind]) for kind in kinds]


def _nearest(vector: Vector, names: Sequence[str], chunks: Sequence[Vector]) -> list[str]:
    similar = sorted(
        (
            (sum(a * b for a, b in zip(vector, chunk, strict=True)), name)
            for name, chunk in zip(names, chunks, strict=True)
        ),
        key=lambda one: -one[0],
    )
    return list(dict.fromkeys(name for _, name in similar))


def _recall(kind: str, hits: Sequence[tuple[bool, bool]]) -> Recall:
    at_1, at_5, n = sum(one for one, _ in hits), sum(five for _, five in hits), len(hits)
    ends: Any = wilson(at_5, n)
    return Recall(kind, n, at_1 / n, at_5 / n, (round(float(ends[0]), 2), round(float(ends[1]), 2)))
