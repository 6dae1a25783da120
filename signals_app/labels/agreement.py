"""Agreement of two people who labelled the same posts. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

Sides = Mapping[str, str]
"""Token -> long or short; empty: no call."""
NO_CALL = "none"
MIN_PAIRS = 30
"""Pairs from which on the interval is given."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far pairs of labels agree, by class: none, long, short or mixed."""

    pairs: int
    same: int
    """Pairs of the same class."""
    kappa: float | None
    """Cohen's kappa: 0 is chance, 1 full agreement; None without two classes."""
    kappa_95: tuple[float, float] | None
    """By the large-sample standard error of Cohen (1960); None below `MIN_PAIRS`, where it is too narrow."""


def class_of(sides: Sides) -> str:
    """Return the class of a label: none, long, short, or mixed for tokens of both sides."""
    found = set(sides.values())
    return "mixed" if len(found) > 1 else next(iter(found), NO_CALL)


def agreement(pairs: Sequence[tuple[Sides, Sides]]) -> Agreement:
    """Return the agreement of (first label, second label) pairs."""
    classes = [(class_of(first), class_of(second)) for first, second in pairs]
    same = sum(first == second for first, second in classes)
    count = len(classes)
    firsts, seconds = Counter(one for one, _ in classes), Counter(one for _, one in classes)
    by_chance = sum(firsts[name] * seconds[name] for name in firsts) / max(count, 1) ** 2
    if not count or by_chance == 1:
        return Agreement(count, same, None, None)
    observed = same / count
    kappa = (observed - by_chance) / (1 - by_chance)
    if count < MIN_PAIRS:
        return Agreement(count, same, round(kappa, 4), None)
    reach = 1.96 * sqrt(observed * (1 - observed) / count) / (1 - by_chance)
    return Agreement(
        count, same, round(kappa, 4), (round(kappa - reach, 4), round(min(kappa + reach, 1.0), 4))
    )
