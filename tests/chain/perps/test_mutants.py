"""The tests of the perps module have power: each planted contract bug is found."""

import pytest

from tests.chain.mutants import Mutant, Verdict, table
from tests.chain.perps.lab import PerpLab
from tests.chain.perps.mutants import CORE, MUTANTS, judge, mutated

pytestmark = pytest.mark.chain
VERDICTS: list[Verdict] = []


@pytest.mark.limit(300)
@pytest.mark.parametrize(
    "mutant",
    [pytest.param(mutant, marks=[] if mutant.bug in CORE else [pytest.mark.slow]) for mutant in MUTANTS],
    ids=lambda mutant: mutant.bug,
)
def test_planted_bug_is_found(lab: PerpLab, mutant: Mutant) -> None:
    verdict = judge(lab, mutant.bug, mutated(mutant), mutant.hint)
    VERDICTS.append(verdict)
    assert verdict.found_by, f"no test finds: {mutant.bug}"


def test_planted_bugs_table() -> None:
    """Prints what was found by which test (shown with -s or -rP)."""
    assert {mutant.bug for mutant in MUTANTS} >= set(CORE)
    print("\n" + table(VERDICTS))
