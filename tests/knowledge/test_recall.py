"""Recall@1 and recall@5 of the local embedder on the questions of questions.yaml.

.venv/bin/python -m pytest tests/knowledge/test_recall.py -s
"""

from collections import Counter
from pathlib import Path

import pytest

from maxxit.core.config import read_yaml
from maxxit.knowledge.ingest import Scope, store
from maxxit.knowledge.retrieve import passages
from maxxit.knowledge.sources.base import Text
from tests.builders import T0, RecordedClock
from tests.knowledge.conftest import Configure

PAGE = (Path(__file__).parents[2] / "docs/knowledge.md").read_text()
SET = read_yaml(Path(__file__).with_name("questions.yaml"))


@pytest.mark.django_db
def test_recall_at_five(time: RecordedClock, configure: Configure) -> None:
    configure(search={"min_similarity": 0, "exact": True})
    for name, text in SET["documents"].items():
        store(name, Text(text), Scope("set"))
    total: Counter[str] = Counter()
    at_1: Counter[str] = Counter()
    at_5: Counter[str] = Counter()
    missed = []
    for answer, kind, question in SET["questions"]:
        uris = [passage.uri for passage in passages(question, at=T0, limit=5)]
        total[kind] += 1
        at_1[kind] += uris[:1] == [answer]
        at_5[kind] += answer in uris
        if answer not in uris:
            missed.append(f"{kind}: {question}")
    for kind in (*total, "all"):
        n, one, five = (count.total() if kind == "all" else count[kind] for count in (total, at_1, at_5))
        print(f"\n{kind:6} questions {n:3}  recall@1 {one / n:.2f}  recall@5 {five / n:.2f}", end="")
        assert f"| {n} | {one / n:.2f} | {five / n:.2f} |" in PAGE, (
            f"docs/knowledge.md has another row for {kind}"
        )
    print("\nmissed:", *missed, sep="\n  ")
    assert f"{len(SET['documents'])} documents and {total.total()} questions" in PAGE
