"""The fakes, in a process of the main environment, and the road from a client of a fixed host to them."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("MAXXIT_PYTHON", str(ROOT / ".venv/bin/python"))
KEY = "k-conformance"
SECONDS = 60
"""For one call of the fakes."""


class Fakes:
    """`tests.conformance.scenes.Fakes`, at a distance: every method of it can be called by its name."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.urls: dict[str, str] = json.loads(self._line())

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            assert self._process.stdin
            self._process.stdin.write(json.dumps({"do": name, "with": arguments}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._line())
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
            return answer["is"]

        return call

    def _line(self) -> str:
        assert self._process.stdout
        watch = threading.Timer(SECONDS, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise RuntimeError("the fakes ended: see what they wrote above")
        return line


@pytest.fixture(scope="session")
def fakes() -> Iterator[Fakes]:
    """All of them, running."""
    process = subprocess.Popen(
        [PYTHON, "-m", "tests.conformance.serve"],
        cwd=ROOT,
        env=os.environ | {"MAXXIT_CONFORMANCE_KEY": KEY},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Fakes(process)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=SECONDS)
