"""The property tests have power: each planted contract bug is found (I29)."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.chain.lab import Lab
from tests.chain.mutants import CORE, MUTANTS, Mutant, Verdict, judge, mutated, table
from trading.venues.safe.contract.build import sources

pytestmark = pytest.mark.chain
VERDICTS: list[Verdict] = []


@pytest.mark.parametrize("source", sources(), ids=lambda path: path.stem)
def test_an_artifact_is_that_of_its_source(source: Path) -> None:
    """`make check` compiles them all and compares."""
    artifact = json.loads(source.with_suffix(".json").read_text())
    assert artifact["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, marks=[] if mutant.bug in CORE else [pytest.mark.slow]) for mutant in MUTANTS],
    ids=lambda mutant: mutant.bug,
)
def test_planted_bug_is_found(lab: Lab, mutant: Mutant) -> None:
    verdict = judge(lab, mutant.bug, mutated(mutant), mutant.hint)
    VERDICTS.append(verdict)
    assert verdict.found_by, f"no property test finds: {mutant.bug}"


def test_planted_bugs_table() -> None:
    """Prints what was found by which test (shown with -s or -rP)."""
    assert {mutant.bug for mutant in MUTANTS} >= set(CORE)
    print("\n" + table(VERDICTS))
