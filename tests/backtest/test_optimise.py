"""The search finds what a whole sweep finds with fewer tries, and never tries a setting twice."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maxxit.backtest.optimise import optimise
from maxxit.backtest.sweep import Changes, Tried

VALUES = {"a": [str(n) for n in range(9)], "b": [str(n) for n in range(7)]}


class Hill:
    """Makes settings whose Sharpe ratio falls with the distance from one of them; refuses where `a` is 0."""

    def __init__(self, a: int, b: int) -> None:
        self.top, self.asked = (a, b), list[tuple[tuple[str, str], ...]]()

    def __call__(self, settings: Sequence[Changes]) -> list[Tried | str]:
        self.asked += [tuple(sorted(one.items())) for one in settings]
        return [self._tried(one) for one in settings]

    def _tried(self, changes: Changes) -> Tried | str:
        a, b = int(changes["a"]), int(changes["b"])
        if not a:
            return "a is 0"
        height = 20 - abs(a - self.top[0]) - abs(b - self.top[1])
        figures: Any = SimpleNamespace(net=height)
        return Tried(changes, figures, np.tile([0.01, -0.01], 20) + height / 10_000)


@given(st.integers(1, 8), st.integers(0, 6), st.integers(1, 63), st.integers(0, 9))
def test_no_setting_is_tried_twice_nor_more_than_are_allowed(a: int, b: int, tries: int, seed: int) -> None:
    hill, again = Hill(a, b), Hill(a, b)

    found = optimise(hill, VALUES, {"fixed": "1"}, tries, seed)

    assert len(hill.asked) == len(set(hill.asked)) <= tries
    assert len(found.tried) + sum(found.refused.values()) == len(hill.asked)
    assert all(("fixed", "1") in one for one in hill.asked)
    assert found.tried == sorted(found.tried, key=lambda one: -one.figures.net)
    optimise(again, VALUES, {"fixed": "1"}, tries, seed)
    assert again.asked == hill.asked


@given(st.integers(1, 8), st.integers(0, 6), st.integers(0, 9))
def test_a_single_top_is_found_with_half_of_the_tries_of_a_sweep(a: int, b: int, seed: int) -> None:
    found = optimise(Hill(a, b), VALUES, {}, 32, seed)

    assert found.tried[0].changes == {"a": str(a), "b": str(b)}


def test_all_settings_are_tried_where_there_are_as_many_tries() -> None:
    hill = Hill(3, 3)

    optimise(hill, VALUES, {}, 1_000, 1)

    assert len(hill.asked) == 63
