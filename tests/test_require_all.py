"""`--require-all` counts the kinds of tests over all xdist workers and fails when one is missing or skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxxit.core.config import ROOT

KINDS = ("django_db", "broker", "chain", "realdata", "browser", "pooler")
INI = "[pytest]\naddopts = -p tests.servers\nmarkers =\n" + "".join(
    f"  {kind}\n" for kind in KINDS if kind != "broker"
)
HEAD = "import pytest\n"


def source_of(kind: str, body: str) -> str:
    return f"@pytest.mark.{kind}\ndef test_{kind}(): {body}\n"


def test_a_missing_and_a_skipped_kind_fail_the_run(tmp_path: Path) -> None:
    """On the servers of this run; each kind is in a file of its own, so that both workers get some."""
    (tmp_path / "pytest.ini").write_text(INI)
    skipped = (("chain", "pytest.skip('no anvil')"), ("browser", "pytest.skip('no Chromium')"))
    for kind, body in (("django_db", "pass"), ("broker", "pass"), *skipped):
        (tmp_path / f"test_{kind}.py").write_text(HEAD + source_of(kind, body))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ.pop("MAXXIT_TEST_REDIS", None)  # no Redis of its own for each worker
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:django", "-n", "2", "--require-all"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "--require-all: no chain test ran; no recorded data test ran; no browser test ran; " in run.stderr
    for kind in ("chain", "browser"):
        assert f"skipped: test_{kind}.py::test_{kind}" in run.stderr
