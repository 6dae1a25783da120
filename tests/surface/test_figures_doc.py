"""docs/figures.md: each of a person's ten questions is answered by its command and its call of the API, alike."""

import csv
import json
import re
import shlex
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from maxxit.core import clock
from positions.performance import points, summary
from tests.surface.conftest import World

PAGE = (Path(__file__).parents[2] / "docs/figures.md").read_text()
ROW = re.compile(r"^\| (.+\?) \| `manage\.py (.+)` \| `/api/(.+)` \|$", re.M)
QUESTIONS = ROW.findall(PAGE.partition("## A person's ten questions")[2].partition("\n## ")[0])
ANSWERS: dict[str, Callable[[Any], Any]] = {
    "What did I earn": lambda told: (told["closed_pnl_usd"], told["costs"], told["books"]),
    "What did I earn today": lambda told: (
        told.get("today", told)["realised_usd"],
        told.get("today", told)["closed"],
    ),
    "How did the last": lambda told: [(day["report_date"], day["day_pnl_usd"]) for day in told["days"]],
    "Which agent": lambda told: [(part["label"], part["net"]) for part in told["parts"]],
    "Which followed account": lambda told: ([part["net"] for part in told["parts"]], told["own_record"]),
    "On which tokens": lambda told: [(part["key"], part["net"]) for part in told["parts"]],
    "What did I risk": lambda told: (told["max_drawdown"], told["sharpe"], told["trades"]),
    "Why is it 0": lambda told: [finding["code"] for finding in told["findings"]],
    "What did each trade": lambda rows: [(row["token"], row["pnl_usdc"]) for row in rows],
    "What do I give": lambda rows: [row["gain_usdc"] for row in rows],
}
"""Beginning of the question -> what in the answer answers it."""


def test_there_are_ten() -> None:
    assert len(QUESTIONS) == len(ANSWERS) == 10
    assert [
        name for (question, *_), name in zip(QUESTIONS, ANSWERS, strict=True) if not question.startswith(name)
    ] == []


@pytest.mark.parametrize("number", range(10))
def test_a_question_is_answered_by_one_command_and_one_call(world: World, number: int) -> None:
    question, command, path = QUESTIONS[number]
    answer = list(ANSWERS.values())[number]
    mine = world.of_alice
    points.take_points()
    summary.save_summary(clock.now().date())
    shown = {
        "7": mine.deployment.pk,
        "Momentum": mine.agent.name,
        "@cobie": f"@{mine.post.account.x_username}",
    }

    def real(text: str) -> str:
        """Put the world's rows in place of those of the page."""
        names = r"(?<=deployment[ =])7\b|(?<=explain )7\b|Momentum|@cobie"
        return re.sub(names, lambda name: str(shown[name[0]]), text)

    words = shlex.split(real(command.replace("Momentum", "'Momentum'")))
    printed = StringIO()
    as_csv = "--csv" in words
    call_command(*words, *([] if as_csv else ["--json"]), stdout=printed)
    called = Client().get(f"/api/{real(path)}", headers=world.key(world.staff))
    assert called.status_code == 200, (question, called)
    if as_csv:
        texts = printed.getvalue(), called.getvalue().decode()
        by_command, by_api = (list(csv.DictReader(StringIO(text))) for text in texts)
        assert by_command
    else:
        by_command, by_api = json.loads(printed.getvalue()), called.json()
    assert answer(by_command) == answer(by_api), question
    assert answer(by_command), question
