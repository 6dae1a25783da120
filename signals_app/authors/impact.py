"""The impact factor of an author from the results of the author's calls (checklist A61). Pure.

Each ended call scores its exit, plus a bonus for its favourable and minus a penalty for its adverse excursion. The mean
score, between -1.5 and 1.5, is mapped to a fraction and shrunk to 0.5 where there are few calls.
"""

from collections.abc import Sequence

HIGHEST = 1.5
"""The best score of a call: target +1 and the full bonus; the worst is its negative."""
NEUTRAL = 0.5
"""The impact factor of an author without ended calls."""
BONUS = ((15.0, 0.5), (8.0, 0.3), (4.0, 0.1))
"""(Maximum favourable excursion in percent from which it counts, points), largest first."""


def exit_score(exit_by: str, gross_pct: float) -> float:
    """Score the exit: target +1, stop -1; by time +0.5 from +6 %, -0.5 from -3 % down, otherwise 0."""
    if exit_by != "time":
        return {"target": 1.0, "stop": -1.0}[exit_by]
    return 0.5 if gross_pct >= 6 else -0.5 if gross_pct <= -3 else 0.0


def bonus(favourable_pct: float) -> float:
    """Return the points for the maximum favourable excursion, percent of the entry."""
    return next((points for least, points in BONUS if favourable_pct >= least), 0.0)


def penalty(adverse_pct: float) -> float:
    """Return the penalty for the maximum adverse excursion, percent of the entry, positive."""
    return 0.5 if adverse_pct > 6 else 0.3 if adverse_pct >= 4 else 0.1 if adverse_pct >= 2 else 0.0


def score(exit_by: str, gross_pct: float, favourable_pct: float, adverse_pct: float) -> float:
    """Return the score of one call, -1.5 to 1.5."""
    return exit_score(exit_by, gross_pct) + bonus(favourable_pct) - penalty(adverse_pct)


def factor(scores: Sequence[float], prior_calls: int) -> float:
    """Return the impact factor, 0 to 1: the mean score on that scale, shrunk to 0.5 by `prior_calls` neutral calls."""
    if not scores:
        return NEUTRAL
    return NEUTRAL + sum(scores) / (len(scores) + prior_calls) / (2 * HIGHEST)
