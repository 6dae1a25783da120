"""From what an author's calls did to how much the author's word weighs (checklist A61). Pure.

Each ended call scores its exit (TOS), plus a bonus for how far it went its author's way, minus a penalty for how
far it went against. The mean score, between -1.5 and 1.5, becomes a fraction; few calls leave it near 0.5.
"""

from collections.abc import Sequence

HIGHEST = 1.5
"""Of a call: target +1 and the full bonus; the lowest is its negative."""
NEUTRAL = 0.5
"""The impact factor of an author of whom nothing is known."""
BONUS = ((15.0, 0.5), (8.0, 0.3), (4.0, 0.1))
"""(Maximum favourable excursion in percent from which it counts, points), largest first."""


def exit_score(exit_by: str, gross_pct: float) -> float:
    """TOS: target +1, stop -1; by time: from +6 % on +0.5, from -3 % down -0.5, otherwise 0."""
    if exit_by != "time":
        return {"target": 1.0, "stop": -1.0}[exit_by]
    return 0.5 if gross_pct >= 6 else -0.5 if gross_pct <= -3 else 0.0


def bonus(favourable_pct: float) -> float:
    """Points for the maximum favourable excursion, percent of the entry."""
    return next((points for least, points in BONUS if favourable_pct >= least), 0.0)


def penalty(adverse_pct: float) -> float:
    """Points against for the maximum adverse excursion, percent of the entry, positive."""
    return 0.5 if adverse_pct > 6 else 0.3 if adverse_pct >= 4 else 0.1 if adverse_pct >= 2 else 0.0


def score(exit_by: str, gross_pct: float, favourable_pct: float, adverse_pct: float) -> float:
    """Points of one call, -1.5 to 1.5."""
    return exit_score(exit_by, gross_pct) + bonus(favourable_pct) - penalty(adverse_pct)


def factor(scores: Sequence[float], prior_calls: int) -> float:
    """The impact factor, 0 to 1: the mean score on that scale, drawn to 0.5 as if by `prior_calls` neutral calls."""
    if not scores:
        return NEUTRAL
    return NEUTRAL + sum(scores) / (len(scores) + prior_calls) / (2 * HIGHEST)
