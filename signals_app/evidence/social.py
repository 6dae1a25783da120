"""Evidence of social metrics in the form of LunarCrush: the score of checklist A40. Pure.

Each figure becomes a score in [-1, 1] by straight lines between the points of its table, and the score is their
weighted sum: galaxy 0.30, sentiment 0.25, social volume 0.20, momentum 0.15, rank 0.10. The 60 to 40 of A40 between
this score and the posts are an agent's weights, `social: 60` and `tweet: 40`; its size stays that of its preset.
No edge was measured: a new agent gives it no weight.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from signals_app.evidence.base import Evidence, Facts, SocialFigures

Points = Sequence[tuple[str, str]]
GALAXY: Points = (("0", "-1"), ("40", "-0.4"), ("50", "0"), ("60", "0.4"), ("75", "0.8"), ("100", "1"))
SENTIMENT: Points = (("0", "-1"), ("30", "-0.5"), ("40", "-0.2"), ("60", "0.2"), ("70", "0.5"), ("100", "1"))
VOLUME: Points = (("-100", "-1"), ("-20", "-0.4"), ("0", "0"), ("20", "0.4"), ("50", "0.8"), ("100", "1"))
MOMENTUM: Points = (("-30", "-1"), ("-10", "-0.6"), ("-5", "-0.3"), ("5", "0.3"), ("10", "0.6"), ("20", "1"))
RANK: Points = (("1", "1"), ("50", "0.7"), ("200", "0.3"), ("500", "-0.2"), ("1000", "-0.6"), ("2000", "-1"))
"""Figure -> score; beyond the ends the score of the end. Sentiment is percent positive, volume and momentum are
percent of change in 24 hours, rank 1 is the best."""


class Social(Evidence):
    name = "social"
    help = "social metrics of the token"

    def of(self, facts: Facts) -> Decimal | None:
        return social_score(facts.social) if facts.social else None


def social_score(figures: SocialFigures) -> Decimal:
    """Return the score of A40 in [-1, 1]; positive supports long."""
    return (
        Decimal("0.30") * on_line(GALAXY, figures.galaxy_score)
        + Decimal("0.25") * on_line(SENTIMENT, figures.sentiment_pct)
        + Decimal("0.20") * on_line(VOLUME, figures.volume_change_pct)
        + Decimal("0.15") * on_line(MOMENTUM, figures.price_change_pct)
        + Decimal("0.10") * on_line(RANK, Decimal(figures.alt_rank))
    )


def on_line(points: Points, value: Decimal) -> Decimal:
    """Return the score of `value` on the straight lines between `points`."""
    line = [(Decimal(at), Decimal(score)) for at, score in points]
    if value <= line[0][0]:
        return line[0][1]
    for (left, low), (right, high) in pairwise(line):
        if value <= right:
            return low + (high - low) * (value - left) / (right - left)
    return line[-1][1]
