"""I16: a stolen executor key takes at most the policy's budget. The long run: `python -m tests.chain.hostile`."""

import pytest

from tests.chain.hostile import ATTACKS, run, set_stage, table, tallied
from tests.chain.lab import Lab
from tests.chain.mutants import MUTANTS, mutated, runtime_code

pytestmark = pytest.mark.chain

SEQUENCES = 1_000
POWER_SEQUENCES = 420
# Bugs that widen what can be taken; each must show as a broken budget or too large a share.
WIDENING = (
    "loosening takes effect at once",
    "slippage of an open outside the loss budget",
    "a close may go beyond the budget",
    pytest.param("total loss budget not looked at", marks=pytest.mark.slow),
    pytest.param("share ignores losers that stay open", marks=pytest.mark.slow),
)


def test_stolen_executor_key_stays_within_the_loss_budget(lab: Lab) -> None:
    rows = tallied(run(lab, set_stage(lab), SEQUENCES, seed=20_260_101))
    print("\n" + table(rows))
    assert set(rows) == {attack.__name__ for attack in ATTACKS}
    assert {kind: row.broken for kind, row in rows.items() if row.broken} == {}
    assert max(row.nearest for row in rows.values()) > 0.9, "the attackers are not trying hard enough"
    assert all(row.succeeded > 0 for row in rows.values()), "an attack that never gets through shows nothing"


@pytest.mark.parametrize(
    "bug", [WIDENING[0], *(pytest.param(bug, marks=pytest.mark.slow) for bug in WIDENING[1:])]
)
def test_attack_runs_have_power(lab: Lab, bug: str) -> None:
    """The same runs against a module with a planted bug must break the budget."""
    mutant = next(mutant for mutant in MUTANTS if mutant.bug == bug)
    code = runtime_code(lab, mutated(mutant))
    lab.fresh()
    stage = set_stage(lab)
    lab.rpc("anvil_setCode", lab.module, code)
    rows = tallied(run(lab, stage, POWER_SEQUENCES, seed=7))
    assert sum(row.broken for row in rows.values()) > 0
