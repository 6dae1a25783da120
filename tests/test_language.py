"""The words of the private dialect that language.md replaced do not come back."""

import re
import subprocess

import pytest

from maxxit.core.config import ROOT
from tests.tree import PACKAGES

REPLACED = {
    r"\bthe (?:house|river|roof)\b": "the system, the pipeline, the top layer",
    r"\bstretch of the\b": "stage of the",
    r"\bguarded way out\b|\bthe way out\b": "SSRF-safe HTTP; revoke",
    r"\bdisguises?\b": "encodings",
    r"\bborn\b": "derived",
    r"\breckon": "compute",
    r"\bTold\b": "DeliveryResult",
    r"\blet_go\b": "close_withdrawn_positions, release",
    r"\bRESTED\b|\bA_LITTLE_MORE\b|\bFEWEST\b": "RETRY_DUE, ROUNDING_MARGIN, MIN_SAMPLES",
    r"\bkill switch by itself\b": "automatic triggers of the kill switch",
    r"\bperson's word\b": "a person's decision",
    r"\bvoices?\b": "followed account, author",
    r"\bpurses?\b": "deployment, account, wallet, balance",
    r"\bcast\.(?:py|yaml)\b": "agents.yaml",
    r"\bwrites? without end\b": "exceeded the daily call budget",
    r"\bto be believed\b": "price validation",
    r"\bwhose rows\b": "row-level access control",
    r"\bdeepest fall\b": "max drawdown",
    r"\bwhy not\b": "reason, blocked orders",
    r"\bleft by\b": "exit reason",
    r"\blosses carried\b": "loss carry-forward",
    r"\bmakers? of vectors\b": "embedder",
    r"\blook again\b": "retry",
    r"\bfrom when on\b": "the earliest time at which",
    r"\buntil told to\b": "until `stop` is set",
    r"\bis believed\b": "is accepted, is trusted",
    r"\bwritten down\b": "stored, recorded",
    r"\bgoes on where\b": "resumes",
    r"\bstands? aside\b": "does nothing, waits",
    r"\bas they stand\b": "in file order, unchanged",
    r"\bpassed over\b": "skipped",
    r"\bwhat must exist\b": "requirement",
    r"\bput(?:s|ting)? into force\b": "stored as the current version, applied",
    r"\bdo it yourself\b": "reproduce it",
    r"\b(?:executing|settling|classifying|generating|ingesting)\.": "tasks named run_execute, run_settle",
}
"""Pattern -> what to write instead."""
READ = (
    *PACKAGES,
    "tests",
    "config",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
)
LEFT_OUT = re.compile(
    r"/migrations/|/vendor/|docs/adr/|package-lock|\.(?:vy|json|gz|svg|png|webp)$|/reading/|tests/test_language\.py"
)
"""Generated, historical, or (the reading grammar) lists of words that authors use."""


def _files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", *READ], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    return [name for name in listed.stdout.split("\n") if name and not LEFT_OUT.search(f"/{name}")]


@pytest.mark.parametrize("pattern", REPLACED)
def test_a_replaced_word_does_not_come_back(pattern: str) -> None:
    search = re.compile(pattern, re.IGNORECASE if pattern.islower() else 0)
    found = [
        f"{name}:{number}: {line.strip()[:90]}"
        for name in _files()
        for number, line in enumerate((ROOT / name).read_text().splitlines(), start=1)
        if search.search(line)
    ]

    assert found == [], f"write {REPLACED[pattern]} instead"
