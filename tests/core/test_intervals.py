"""The Wilson interval of a share."""

from decimal import Decimal
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxxit.core.intervals import Z_95, wilson


@given(st.integers(1, 10**6).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_its_ends_solve_the_score_equation_and_enclose_the_share(counts: tuple[int, int]) -> None:
    part, whole = counts
    interval = wilson(part, whole)

    assert interval
    assert 0 <= interval[0] <= Decimal(part) / whole <= interval[1] <= 1
    for end in map(float, interval):
        if 0 < end < 1:
            score = abs(part / whole - end) / sqrt(end * (1 - end) / whole)
            assert score == pytest.approx(float(Z_95), rel=1e-6)


@given(st.integers(0, 50), st.integers(0, 50))
def test_it_mirrors_the_share_of_the_others(part: int, other: int) -> None:
    interval, mirrored = wilson(part, part + other), wilson(other, part + other)

    if not part + other:
        assert interval is mirrored is None
        return
    assert interval
    assert mirrored
    assert interval[0] == pytest.approx(1 - mirrored[1])
    assert interval[1] == pytest.approx(1 - mirrored[0])
