"""Every planted bug, under any variable names, and every step of a campaign has its place in the product."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from tests import planting
from tests.chain.crashes import STEPS as chain_steps
from tests.chain.perps.crashes import STEPS as perps_steps
from tests.chaos.killed import STEPS as killed_steps
from tests.chaos.mutants import MUTANTS, Mutant, planted, target_of, tree_of

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


def mutated(mutant: Mutant, *, renamed: bool) -> list[str]:
    """The functions that a bug changes, with the bug; their variables are renamed before or after it is planted."""
    trees: dict[str, planting.Function] = {}
    globals_of = {}
    names: dict[str, dict[str, str]] = {}
    for edit in mutant.edits:
        module, _, target = target_of(edit.where)
        if isinstance(target, str):
            continue
        if edit.where not in trees:
            tree = trees[edit.where] = tree_of(inspect.unwrap(target))
            globals_of[edit.where] = vars(module)
            local = planting.Scope.of(tree, vars(module)).local
            names[edit.where] = {name: f"{name}_renamed" for name in local}
            if renamed:
                planting.rename(tree, names[edit.where], vars(module))
        planting.replace(trees[edit.where], edit.old, edit.new, vars(module))
    if not renamed:
        for where, tree in trees.items():
            planting.rename(tree, names[where], globals_of[where])
    return [ast.unparse(tree) for tree in trees.values()]


@pytest.mark.share
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_renaming_local_variables_breaks_no_bug(mutant: Mutant) -> None:
    assert mutated(mutant, renamed=True) == mutated(mutant, renamed=False)


def named() -> list[str]:
    return sorted({mutant.test.partition("::")[0] for mutant in MUTANTS if mutant.test})


@pytest.mark.share
@pytest.mark.parametrize("test", named())
def test_the_named_test_exists(test: str) -> None:
    assert (ROOT / test).exists()


def steps() -> list[str]:
    """`module:function` or `module:Class.method` of every step at which a campaign kills a worker."""
    crashes = (
        f"{place}.{name}" if ":" in place else f"{place}:{name}"
        for place, name, _ in (*chain_steps.values(), *perps_steps.values())
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
