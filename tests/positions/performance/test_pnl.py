"""What a round trip earned, and the figures of many."""

from decimal import Decimal
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from positions.performance.pnl import cvar_95, gross, max_drawdown

D = Decimal
cents = st.decimals(min_value=-100_000, max_value=100_000, places=6)
positive = st.decimals(min_value=D("0.000001"), max_value=100_000, places=6)


@given(st.sampled_from(["long", "short"]), positive, positive)
def test_the_two_sides_of_one_trade_earn_nothing_together(
    side: str, cash_in: Decimal, cash_out: Decimal
) -> None:
    assert gross("long", cash_in, cash_out) + gross("short", cash_in, cash_out) == 0
    assert gross(side, cash_in, cash_in) == 0


@given(st.lists(cents, max_size=30))
def test_the_drawdown_is_the_deepest_fall_from_any_earlier_point(curve: list[Decimal]) -> None:
    falls = [early - late for place, early in enumerate(curve) for late in curve[place:]]

    assert max_drawdown(curve) == max(falls, default=D(0))


@given(st.lists(cents, max_size=30))
def test_a_curve_that_never_falls_has_no_drawdown(steps: list[Decimal]) -> None:
    assert max_drawdown(list(accumulate(map(abs, steps)))) == 0


@given(st.lists(cents, min_size=20, max_size=120))
def test_the_cvar_is_the_mean_of_the_worst_twentieth(results: list[Decimal]) -> None:
    found, each = cvar_95(results), [one for one in sorted(results) for _ in range(20)]
    worst = each[: len(results)]  # every result twenty times: a twentieth of them is a whole number

    assert found is not None
    assert abs(found + sum(worst, D(0)) / len(worst)) < D("1e-9")
    assert found >= -sum(results, D(0)) / len(results) - D("1e-9")


@given(st.lists(cents, max_size=19))
def test_too_few_results_have_no_tail(results: list[Decimal]) -> None:
    assert cvar_95(results) is None
