"""`manage.py knowledge recall` needs no database, and gives the published figures of the local embedder."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from maxxit.core.errors import Misconfigured
from maxxit.knowledge import recall
from maxxit.knowledge.embedders.base import Vector, embed_questions
from maxxit.knowledge.embedders.local import Local

QUESTIONS = Path(__file__).with_name("questions.yaml")


class AsksDifferently(Local):
    def embed_questions(self, texts: list[str]) -> list[Vector]:
        return self.embed(["asked " + text for text in texts])


def test_the_local_embedder_has_its_published_recall() -> None:
    out = StringIO()
    call_command(
        "knowledge", "recall", "--questions", str(QUESTIONS), "--embedder", "local", "--json", stdout=out
    )
    found = {
        row["kind"]: (row["questions"], round(row["at_1"], 2), round(row["at_5"], 2))
        for row in json.loads(out.getvalue())
    }
    assert found["all"] == (58, 0.67, 0.79)
    assert found["far"] == (14, 0.14, 0.36)


def test_questions_are_embedded_as_such_where_it_makes_a_difference() -> None:
    assert embed_questions(Local(), ["a bridge"]) == Local().embed(["a bridge"])
    assert embed_questions(AsksDifferently(), ["a bridge"]) == Local().embed(["asked a bridge"])


@pytest.mark.parametrize("text", ["documents: {a: b}", "documents: {a: b}\nquestions: [[c, words, d]]"])
def test_a_set_with_a_question_about_no_document_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match="document"):
        recall.read(path)


def test_an_unknown_embedder_is_refused_with_those_there_are() -> None:
    with pytest.raises((CommandError, Misconfigured), match="e5"):
        call_command(
            "knowledge", "recall", "--questions", str(QUESTIONS), "--embedder", "none", stdout=StringIO()
        )
