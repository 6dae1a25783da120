"""Every planted bug still has its place in the product, and the test that is named for it exists."""

from pathlib import Path

import pytest

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
