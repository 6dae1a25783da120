"""A share of T0 and T1 for every run of the tests; `make chaos` runs more, and every planted bug."""

from collections.abc import Iterator

import pytest

from tests.chaos import machines, mutants, semantics, simulation

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = (
    "a timeout counts as rejected",
    "no dedup, and sent again after a 404",
    "committed after sending",
)
"""Planted bugs that a few hundred faults find."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No log lines: a campaign would write a million."""
    with simulation.quiet():
        yield


@pytest.mark.share
def test_after_a_thousand_faults_nothing_is_doubled_or_lost() -> None:
    one = simulation.Campaign(seed=21, deployments=4, rounds=60).run(600)

    assert not one.violations, one.report()
    assert one.outcomes["open filled"] > 20, one.report()


@pytest.mark.share
@pytest.mark.parametrize("venue", semantics.VENUES)
def test_nothing_is_doubled_or_lost_where_the_venue_promises_what_an_adapter_says(venue: str) -> None:
    one = simulation.Campaign(seed=23, deployments=3, rounds=40, like=venue).run(150)

    assert not one.violations, one.report()
    assert one.outcomes["open filled"] > 5, one.report()


@pytest.mark.share
def test_one_seed_is_one_course_of_events() -> None:
    first, second = (simulation.course("one world", deployments=3, rounds=120) for _ in range(2))

    assert len(first) > 100
    assert first == second


@pytest.mark.share
@pytest.mark.parametrize("machine", [machines.MoneyPath, machines.UnderLimits])
def test_no_order_of_events_breaks_a_rule(machine: type[machines.MoneyPath]) -> None:
    machines.run(machine, examples=6, seed=5)


@pytest.mark.share
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    planted = next(one for one in mutants.MUTANTS if one.name == name)

    assert mutants.hunt(planted, faults=3000, seed=1).by == "T0"


def test_after_many_faults_nothing_is_doubled_or_lost() -> None:
    one = simulation.Campaign(seed=22).run(8_000)
    print(one.report())

    assert not one.violations


@pytest.mark.parametrize("machine", [machines.MoneyPath, machines.UnderLimits])
def test_no_order_of_events_breaks_a_rule_in_more_examples(machine: type[machines.MoneyPath]) -> None:
    machines.run(machine, examples=25, seed=6, shrink=True)
