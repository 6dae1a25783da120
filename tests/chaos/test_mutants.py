"""Every planted bug and every step of a campaign still has its place in the product."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.chain.crashes import STEPS as chain_steps
from tests.chaos.killed import STEPS as killed_steps
from tests.chaos.mutants import MUTANTS, planted

ROOT = Path(__file__).parents[2]


@pytest.mark.share
@pytest.mark.django_db(transaction=True)
def test_every_bug_can_be_planted() -> None:
    gone = {}
    for mutant in MUTANTS:
        try:
            with planted(mutant):
                pass
        except (LookupError, AttributeError, ImportError) as error:
            gone[mutant.name] = str(error)
    assert gone == {}


def named() -> list[str]:
    return sorted({mutant.test.partition("::")[0] for mutant in MUTANTS if mutant.test})


@pytest.mark.share
@pytest.mark.parametrize("test", named())
def test_the_named_test_exists(test: str) -> None:
    assert (ROOT / test).exists()


def steps() -> list[str]:
    """`module:function` or `module:Class.method` of every step at which a campaign kills a worker."""
    crashes = (
        f"{place}.{name}" if ":" in place else f"{place}:{name}" for place, name, _ in chain_steps.values()
    )
    return sorted({*killed_steps, *crashes})


@pytest.mark.share
@pytest.mark.parametrize("step", steps())
def test_every_step_of_a_campaign_exists(step: str) -> None:
    module, _, path = step.partition(":")
    found = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)
