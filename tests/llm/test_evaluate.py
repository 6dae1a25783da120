"""`manage.py evaluate-classifier` with a model, and with files that are not there: no test here has a database."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from maxxit.core.config import ROOT
from maxxit.llm.policy import policy
from maxxit.llm.providers.base import Answer, Request
from signals_app.reading import evaluation
from tests.llm import test_commands
from tests.llm.test_commands import run

labelled = test_commands.labelled
evaluate = import_module("signals_app.management.commands.evaluate-classifier")


class Counting:
    """A provider that costs money and answers that no post is a call."""

    model, base_url = "m-1", "https://models.example"

    def __init__(self, name: str) -> None:
        self.name, self.parameters = name, dict[str, Any]()

    def complete(self, request: Request) -> Answer:
        posts = [{"post_id": one["post_id"], "candidate": False, "tokens": [], "sentiment": "neutral",
                  "confidence": "0.1", "reasoning": "no"} for one in request.data["posts"]]  # fmt: skip
        return Answer(json.dumps({"readings": posts}), "m-1", prompt_tokens=1000, completion_tokens=100)


def test_a_model_is_evaluated_without_a_database(
    labelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trace, no budget, no circuit breaker of the live system: any query would fail here (no `db` fixture)."""
    name, stanza = next((name, one) for name, one in policy().providers.items() if one.usd_per_million_prompt)
    monkeypatch.setattr(evaluate, "open_provider", lambda *_: Counting(name))

    told = json.loads(run("evaluate-classifier", *labelled, "--provider", name, "--batch", "2", "--json"))

    assert (told["posts"], told["calls"], told["provider"]) == (5, 3, [f"{name} m-1"])
    assert told["classes"]["candidate"]["missed"] == 3
    assert Decimal(told["cost_usd"]) == 3 * stanza.cost(1000, 100)


def test_the_lexical_reader_is_evaluated_on_a_bare_machine(labelled: list[str], tmp_path: Path) -> None:
    """No database, key or profile: nothing is set, and no server runs."""
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "manage.py", "evaluate-classifier", *labelled, "--json"],
        cwd=ROOT,
        env=bare | {"MAXXIT_DATA_DIR": str(tmp_path / "data"), "MAXXIT_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["posts"] == 5
    assert "rules" in str(told["provider"])


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        (1, "none.csv", "No such file"),
        (3, "none.jsonl", "No such file"),
        (3, ".", "Is a directory"),
    ],
)
def test_a_file_that_is_not_there_ends_the_evaluation(
    labelled: list[str], tmp_path: Path, option: int, value: str, why: str
) -> None:
    labelled[option] = str(tmp_path / value)
    with pytest.raises(CommandError, match=why) as failed:
        run("evaluate-classifier", *labelled)
    assert failed.value.returncode == 2


def test_a_plot_that_cannot_be_written_is_told_before_anything_is_read(
    labelled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "read_labels", None)
    for place in (tmp_path, tmp_path / "none" / "plot.png"):
        with pytest.raises(CommandError, match="--plot") as failed:
            run("evaluate-classifier", *labelled, "--plot", str(place))
        assert failed.value.returncode == 2
