"""A stolen executor key, and keeper, takes at most the budgets. Long run: `python -m tests.chain.perps.hostile`."""

import pytest

from tests.chain.perps.hostile import (
    ATTACKS,
    boundary,
    hurried_owner,
    partial,
    run,
    set_stage,
    table,
    tallied,
    total_losses,
)
from tests.chain.perps.lab import PerpLab
from tests.chain.perps.mutants import MUTANTS, mutated, runtime_code

pytestmark = pytest.mark.chain

SEQUENCES = 64
POWER_SEQUENCES = 40
WIDEST = (total_losses, boundary, partial, hurried_owner)
# Bugs that widen what can be taken; each must show as a broken budget or too large a share.
WIDENING = (
    "collateral not reserved",
    pytest.param("losses of the day not looked at", marks=pytest.mark.slow),
    pytest.param("what returns is freed twice", marks=pytest.mark.slow),
    pytest.param("loosening takes effect at once", marks=pytest.mark.slow),
)


@pytest.mark.limit(300)
def test_stolen_key_stays_within_the_loss_budgets(lab: PerpLab) -> None:
    rows = tallied(run(lab, set_stage(lab), SEQUENCES, seed=20_261_129))
    print("\n" + table(rows))
    assert set(rows) == {attack.__name__ for attack in ATTACKS}
    assert {kind: row.broken for kind, row in rows.items() if row.broken} == {}
    assert max(row.nearest for row in rows.values()) > 0.9, "the attackers are not trying hard enough"
    assert all(row.succeeded > 0 for row in rows.values()), "an attack that never gets through shows nothing"
    assert sum(row.shares for row in rows.values()) > 0


@pytest.mark.limit(300)
@pytest.mark.parametrize("bug", WIDENING)
def test_attack_runs_have_power(lab: PerpLab, bug: str) -> None:
    """The same runs against a module with a planted bug must break the budget."""
    mutant = next(mutant for mutant in MUTANTS if mutant.bug == bug)
    code = runtime_code(lab, mutated(mutant))
    lab.fresh()
    stage = set_stage(lab)
    lab.rpc("anvil_setCode", lab.module, code)
    assert any(not outcome.within for outcome in run(lab, stage, POWER_SEQUENCES, 7, WIDEST))
