"""A model's answers, recorded once, replay bit for bit without it; another prompt finds no recording and says so."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxxit.core.config import ROOT
from maxxit.llm.rules.read import Reader
from tests.llm.server import Handler, Reply, running, says

DATA = ROOT.parent / "shared" / "data"
START, END = "2017-12-07", "2017-12-08"
AUTHORS = {"CarpeNoctom", "VentureCoinist", "anondran"}

pytestmark = [pytest.mark.realdata, pytest.mark.django_db(transaction=True)]


@dataclass
class Played:
    """How one replay ended."""

    code: int
    figures: dict[str, Any]
    events: bytes
    errors: str


def reader() -> Reply:
    """A model that reads well, and words each answer differently: asked again it would not say the same."""
    number = count(1)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        said = body["messages"][-1]["content"]
        data, _ = json.JSONDecoder().raw_decode(said[said.index('{"posts"') :])
        read = Reader.of(data["tokens"]).read
        readings = [read(post["text"]).as_json(post["post_id"]) for post in data["posts"]]
        for reading in readings:
            reading["confidence"] = min(0.95, round(reading["confidence"] + next(number) % 7 / 100, 2))
        says({"readings": readings})(handler, body)

    return reply


def our_config(folder: Path) -> Path:
    """The project's, but in a replay `openai` reads."""
    shutil.copytree(ROOT / "config", folder)
    file = folder / "profiles" / "replay" / "llm.yaml"
    values = yaml.safe_load(file.read_text())
    values["purposes"]["classify"]["chain"] = ["openai"]
    file.write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Two days of three people."""
    with (DATA / "posts-2017-12.jsonl").open() as lines:
        kept = [
            line
            for line in lines
            if START <= json.loads(line)["created_at"][:10] <= END and json.loads(line)["username"] in AUTHORS
        ]
    file = tmp_path / "posts.jsonl"
    file.write_text("".join(kept))
    return file


@pytest.fixture
def play(worker_environ: dict[str, str], tmp_path: Path, posts: Path) -> Callable[[str, str, Path], Played]:
    """Run the command as people do: recordings on `mode`, the model at `url`."""

    def run(mode: str, url: str, config: Path) -> Played:
        out = tmp_path / "events.jsonl"
        done = subprocess.run(
            [
                *(sys.executable, "manage.py", "replay", "--json", "--from", START, "--to", END),
                *("--posts", str(posts), "--candles", str(DATA), "--events-out", str(out)),
            ],
            cwd=ROOT,
            env=worker_environ
            | {
                "MAXXIT_CONFIG_DIR": str(config),
                "MAXXIT_PROFILE": "",
                "MAXXIT_LLM_RECORDINGS": f"{mode}:{tmp_path / 'recordings'}",
                "OPENAI_BASE_URL": url,
                "OPENAI_API_KEY": "sk-test-0123456789abcdef",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        figures = json.loads(done.stdout) if done.returncode == 0 else {}
        return Played(done.returncode, figures, out.read_bytes() if out.exists() else b"", done.stderr)

    return run


def test_a_recorded_model_replays_with_the_server_down_and_another_prompt_does_not(
    play: Callable[[str, str, Path], Played], tmp_path: Path
) -> None:
    config = our_config(tmp_path / "config")
    with running() as server:
        server.otherwise = reader()
        recorded = play("record", server.url, config)
        asked = len(server.asked)
    assert recorded.code == 0, recorded.errors[-3000:]
    assert recorded.figures["signals"] > 0
    recordings = sorted((tmp_path / "recordings" / "classify").iterdir())
    assert len(recordings) == asked > 10

    again = play("replay", server.url, config)  # nothing listens there any more
    assert again.code == 0, again.errors[-3000:]
    assert again.events == recorded.events
    assert again.figures == recorded.figures

    prompt = config / "prompts" / "classify.md"
    prompt.write_text(prompt.read_text().replace("When in doubt", "When in any doubt"))
    other = play("replay", server.url, config)
    assert other.code == 1
    told = other.errors.strip().splitlines()[-1]
    assert "no recording of 'classify' by openai" in told
    named = re.findall(rf"{re.escape(str(tmp_path))}/recordings/classify/\w{{64}}\.json", told)
    assert len(named) == 1, "the first that is missing ends it"
    assert not Path(named[0]).exists()
    assert sorted((tmp_path / "recordings" / "classify").iterdir()) == recordings
