"""A model that is recorded once and then replayed without it: the fake server's answers, the config, one run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import yaml

from maxxit.core.config import ROOT
from signals_app.reading.rules.read import Reader
from tests.llm.server import Handler, Reply, says

DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Span:
    """What is played, and where its parts lie."""

    posts: Path
    candles: Path
    start: str
    """First day."""
    end: str
    """Last day, included."""
    folder: Path
    """Holds `recordings/`, `config/` and the events of each run."""

    @property
    def recordings(self) -> Path:
        """The recorded answers of the classification."""
        return self.folder / "recordings" / "classify"


@dataclass
class Played:
    """How one replay ended."""

    code: int
    figures: dict[str, Any]
    events: bytes
    errors: str
    seconds: float


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


def change_prompt(config: Path) -> None:
    """One word more in the prompt file of the classification."""
    prompt = config / "prompts" / "classify.md"
    text = prompt.read_text()
    changed = text.replace("When in doubt", "When in any doubt")
    assert changed != text
    prompt.write_text(changed)


def play(span: Span, mode: str, url: str, config: Path, environ: Mapping[str, str] = os.environ) -> Played:
    """Run `manage.py replay` as people do: recordings on `mode`, the model at `url`."""
    out = span.folder / "events.jsonl"
    out.unlink(missing_ok=True)
    begun = perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "replay", "--json", "--from", span.start, "--to", span.end),
            *("--posts", str(span.posts), "--candles", str(span.candles), "--events-out", str(out)),
        ],
        cwd=ROOT,
        env={
            **environ,
            "MAXXIT_CONFIG_DIR": str(config),
            "MAXXIT_PROFILE": "",
            "MAXXIT_LLM_RECORDINGS": f"{mode}:{span.folder / 'recordings'}",
            "OPENAI_BASE_URL": url,
            "OPENAI_API_KEY": "sk-test-0123456789abcdef",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    figures = json.loads(done.stdout) if done.returncode == 0 else {}
    events = out.read_bytes() if out.exists() else b""
    return Played(done.returncode, figures, events, done.stderr, perf_counter() - begun)
